// The page's engine without the page: its wasm in a page that does nothing.

// A page with `engine`, in which `before` (a function without arguments) ran before the wasm is there.
export async function engine(test, before) {
    const page = await test.open('/test/engine.html', undefined, before);
    await page.waitForFunction(() => window.engine);
    return page;
}

// Opens a device in the page as `device`; returns its row.
export function openDevice(page, wishes = {}) {
    return page.evaluate(async (wishes) => {
        window.device = await engine.Device.open(JSON.stringify(wishes));
        return JSON.parse(device.row());
    }, wishes);
}

// Counts the outcomes of a case.
export async function checkCase(test, page, what) {
    let outcomes;
    try {
        outcomes = await page.evaluate(async (what) => {
            const checks = new engine.Checks(device, 'check');
            await checks.addRandom(JSON.stringify(what));
            return JSON.parse(checks.outcomes(0));
        }, what);
    } catch (error) {
        test.wrong(`${JSON.stringify(what)}: ${error.message}`);
        return [];
    }
    count(test, outcomes, JSON.stringify(what));
    return outcomes;
}

// Counts outcomes, which must be some.
export function count(test, outcomes, what) {
    if (!outcomes.length) test.wrong(`${what}: nothing was checked`);
    for (const { tensor, operation, n, activations, kernel, comparison } of outcomes) {
        if (comparison.passed) test.right();
        else test.wrong(`${tensor} ${operation} n = ${n} ${activations} ${kernel}: ${JSON.stringify(comparison)}`);
    }
}
