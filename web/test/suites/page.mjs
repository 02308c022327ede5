// The page as a person uses it: a check of the browser, files by picker, drop and address, times, a report; at two widths.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const timeout = 3600;

const tests = fileURLToPath(new URL('../../../tests/', import.meta.url));
const model = `${tests}data/storybook-3.7M-Q4_K_M.gguf`;

const text = (page, selector) => page.$eval(selector, (element) => element.innerText);
// Waits for the end of what runs, minutes if it must.
export async function finished(page) {
    await page.waitForSelector('#running:not([hidden])');
    await page.waitForSelector('#running', { hidden: true, timeout: 3_000_000 });
}
export async function ready(page) {
    await page.waitForSelector('html[data-ready]');
}

export default async function (test) {
    for (const width of [390, 1280]) {
        const page = await test.open('/', { width, height: 844 });
        await ready(page);
        test.check(/kernels/.test(await text(page, '#gpu')), 'the adapter is shown', await text(page, '#gpu'));
        test.check(await page.$eval('#check', (button) => !button.disabled), 'the check can be started');
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        test.check(wide <= 0, 'nothing is wider than the page', wide);
        await test.shot(page, `before-${width}`);

        // A few tensors of a file are enough for one width: the other checks all of them.
        await (await page.$('#picker')).uploadFile(model);
        await page.waitForSelector('#check-file');
        test.check(/GGUF v3.*38 tensors/.test(await text(page, '#file')), 'what is in the file', await text(page, '#file'));
        await page.click('#file summary');
        await page.waitForSelector('#file table');
        test.check(/token_embd\.weight/.test(await text(page, '#file table')), 'its tensors');
        await test.shot(page, `file-${width}`);
        await page.click('#check-file');
        await page.waitForFunction(() => document.querySelector('#progress').value >= 3);
        await test.shot(page, `during-${width}`);
        if (width === 390) await page.click('#stop');
        await finished(page);
        const verdict = await text(page, '#verdict');
        test.check(width === 390 ? /^INTERRUPTED \d+ checks on/.test(verdict) : /^OK \d+ checks on 38 tensors/.test(verdict), 'the verdict', verdict);
        await test.shot(page, `after-${width}`);
        const report = JSON.parse(await page.evaluate(reported));
        test.equal([report.schema, report.verdict.ok, report.verdict.interrupted], [1, width !== 390, width === 390], 'the report');
        valid(test, report, 'a check');
        test.check(report.device.backend === 'BrowserWebGpu' && report.results.every((row) => row.ok), 'its device and rows', report);
        if (width === 1280) await others(test, page);
        await page.close();
    }
}

async function others(test, page) {
    // The check of the browser, of which the suite `formats` does more: some formats of it.
    await page.click('#check');
    await page.waitForFunction(() => document.querySelector('#progress').value >= 2, { timeout: 600_000 });
    test.check(/^\d+ of \d+: /.test(await text(page, '#doing')), 'its progress', await text(page, '#doing'));
    await page.click('#stop');
    await page.waitForSelector('#running', { hidden: true, timeout: 600_000 });
    test.check(/^INTERRUPTED \d+ checks on/.test(await text(page, '#verdict')), 'the check of the browser', await text(page, '#verdict'));

    // By keyboard alone: from the address to the button.
    await page.focus('#url');
    await page.keyboard.type(test.url('/files/data/storybook-3.7M-Q4_0.gguf'));
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => /Q4_0\.gguf/.test(document.querySelector('#file .name')?.textContent));
    test.check(/Q4_0/.test(await text(page, '#file')), 'a file of an address', await text(page, '#file'));
    await page.click('#options-title');
    await page.$eval('#batches', (input) => (input.value = '1'));
    await page.click('#bench-file');
    await finished(page);
    test.check(/^OK \d+ cases/.test(await text(page, '#verdict')), 'times', await text(page, '#verdict'));
    test.check(/GB\/s/.test(await text(page, '#table')), 'their table');
    const drawn = await page.$eval('#picture img', (image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight]));
    test.check(drawn[0] > 300 && drawn[1] > 200, 'the picture is drawn', drawn);
    await test.shot(page, 'times-1280');
    const report = JSON.parse(await page.evaluate(reported));
    valid(test, report, 'times');
    test.check(report.results.every((row) => row.median_us > 0 && row.ok), 'the report of times', report);

    // A checkpoint: several files at once.
    const folder = '/files/golden/checkpoints/bnb-nf4-dq';
    await test.drop(page, '#drop', `${folder}/model.safetensors`, `${folder}/config.json`);
    await page.waitForFunction(() => /2 files/.test(document.querySelector('#file .name')?.textContent));
    test.check(/NF4/.test(await text(page, '#file')), 'a checkpoint with its settings', await text(page, '#file'));
    await page.$eval('#batches', (input) => (input.value = '1, 3'));
    await page.click('#check-file');
    await finished(page);
    test.check(/^OK/.test(await text(page, '#verdict')), 'its check', await text(page, '#verdict'));

    await page.$eval('#batches', (input) => (input.value = '0'));
    await page.click('#check');
    await page.waitForSelector('#problem:not([hidden])');
    test.check(/0.*no list of numbers/.test(await text(page, '#problem')), 'what is no list of numbers', await text(page, '#problem'));
}

// What the page saves must be as the schema of the command's output says.
function valid(test, report, what) {
    const schema = fileURLToPath(new URL('../../../docs/qmatmul.schema.json', import.meta.url));
    const code = 'import json, sys, jsonschema; jsonschema.validate(json.load(sys.stdin), json.load(open(sys.argv[1])))';
    const { status, stderr } = spawnSync('python3', ['-c', code, schema], { input: JSON.stringify(report), encoding: 'utf8' });
    test.check(status === 0, `the report of ${what} is as the schema says`, stderr);
}

// The text that the page saves: what `Save it` hands to the browser.
async function reported() {
    const made = new Promise((resolve) => {
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
            URL.createObjectURL = create;
            blob.text().then(resolve);
            return 'data:,';
        };
    });
    document.querySelector('#save').click();
    return made;
}
