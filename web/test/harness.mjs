// One suite in one browser.
//
// A suite's default export is an async function of one argument, a `Test`. Its other exports are options:
//   timeout: seconds until it counts as hung, 300 unless told
//   webgpu: false for a browser without WebGPU
//   args: more arguments for Chromium; prefs: more preferences for Firefox
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const tools = process.env.WEB_TOOLS;
const puppeteer = createRequire(join(tools, 'node', 'package.json'))('puppeteer-core');

export const browsers = ['chromium', 'firefox'];

const CHROMIUM = ['--no-sandbox', '--disable-dev-shm-usage'];
const CHROMIUM_WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
const FIREFOX_WEBGPU = { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true };
// Nothing is fetched from Mozilla.
const FIREFOX = { 'app.normandy.enabled': false, 'services.settings.server': 'data:,', 'toolkit.telemetry.enabled': false };

function launch(browser, { webgpu = true, args = [], prefs = {} }, profile) {
    const options = { browser: browser === 'chromium' ? 'chrome' : 'firefox', headless: true, userDataDir: profile, protocolTimeout: 3_600_000 };
    return browser === 'chromium'
        ? puppeteer.launch({ ...options, executablePath: process.env.CHROMIUM, args: [...CHROMIUM, ...(webgpu ? CHROMIUM_WEBGPU : []), ...args] })
        : puppeteer.launch({
              ...options,
              executablePath: process.env.FIREFOX,
              extraPrefsFirefox: { ...FIREFOX, ...(webgpu ? FIREFOX_WEBGPU : { 'dom.webgpu.enabled': false }), ...prefs },
          });
}

// What a page throws is not always an `Error`, and not each stack begins with the message.
function told(error) {
    if (!(error instanceof Error)) return `thrown: ${JSON.stringify(error)}`;
    return error.stack?.includes(error.message) ? error.stack : `${error}\n${error.stack ?? ''}`;
}

// What a suite is given.
class Test {
    rightCount = 0;
    wrongCount = 0;
    tolerated = [];

    constructor(browserName, suite, browser, server) {
        Object.assign(this, { browserName, suite, browser, server });
    }

    // More than one thing was right: as many as a page counted.
    right(count = 1) {
        this.rightCount += count;
    }

    wrong(message) {
        this.wrongCount += 1;
        console.log(`WRONG ${this.browserName} ${this.suite}: ${message}`);
    }

    // Counts whether `condition` holds; `details` (any value) is shown if it does not.
    check(condition, what, details) {
        if (condition) this.right();
        else this.wrong(details === undefined ? what : `${what}: ${typeof details === 'string' ? details : JSON.stringify(details)}`);
        return Boolean(condition);
    }

    equal(got, want, what) {
        return this.check(JSON.stringify(got) === JSON.stringify(want), what, `got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
    }

    note(text) {
        console.log(`      ${this.browserName} ${this.suite}: ${text}`);
    }

    // Errors in the console that match are part of the test. All others are wrong.
    tolerate(pattern) {
        this.tolerated.push(pattern);
    }

    url(path) {
        return this.server.url(path);
    }

    // A page of that path. What it throws, errors that it logs (breaches of its Content-Security-Policy, too), and an answer that
    // is not 200 are wrong. WEB_LOG=1 shows all that it logs.
    // `before` is a function without arguments that runs in the page before its own scripts.
    async open(path = '/', viewport = { width: 1280, height: 800 }, before) {
        const page = await this.browser.newPage();
        if (before) await page.evaluateOnNewDocument(before);
        const complain = (text) => this.tolerated.some((pattern) => pattern.test(text)) || this.wrong(`the page says: ${text.slice(0, 2000)}`);
        page.on('pageerror', (error) => complain(told(error)));
        page.on('console', (message) => {
            if (process.env.WEB_LOG) this.note(`${message.type()}: ${message.text()}`);
            if (message.type() === 'error') complain(`${message.text()} ${message.location()?.url ?? ''}`);
        });
        page.setDefaultTimeout(60_000);
        await page.setViewport(viewport);
        const response = await page.goto(this.url(path));
        if (response?.status() !== 200) throw new Error(`${path} answers with ${response?.status()}`);
        return page;
    }

    // Drops files on the element: `paths` of the server, as /files/data/storybook-3.7M-Q4_K_M.gguf.
    drop(page, selector, ...paths) {
        return page.$eval(selector, dropped, paths);
    }

    // A picture below target/web-tools/shots, to be looked at.
    async shot(page, name) {
        const folder = join(tools, 'shots');
        mkdirSync(folder, { recursive: true });
        await page.screenshot({ path: join(folder, `${this.browserName}-${name}.png`), fullPage: true });
    }
}

// Runs in the page.
async function dropped(element, paths) {
    const dataTransfer = new DataTransfer();
    for (const path of paths) {
        const response = await fetch(path);
        if (!response.ok) throw new Error(`${path} answers with ${response.status}`);
        dataTransfer.items.add(new File([await response.blob()], path.split('/').at(-1)));
    }
    for (const type of ['dragenter', 'dragover', 'drop']) {
        element.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
    }
}

// Runs a suite; never throws. { right, wrong }
export async function run(browserName, suite, module, server) {
    const test = new Test(browserName, suite, null, server);
    const profile = mkdtempSync(join(tmpdir(), `${browserName}-`));
    let timer;
    try {
        test.browser = await launch(browserName, module, profile);
        const limit = module.timeout ?? 300;
        const hung = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error(`hung: not done after ${limit} s`)), 1000 * limit);
        });
        const died = new Promise((_, reject) => test.browser.once('disconnected', () => reject(new Error('the browser died'))));
        await Promise.race([module.default(test), hung, died]);
        if (!test.rightCount && !test.wrongCount) test.wrong('nothing was checked');
    } catch (error) {
        test.wrong(test.browser ? told(error) : `the browser does not start: ${error.message}`);
    }
    clearTimeout(timer);
    await close(test.browser);
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    return { right: test.rightCount, wrong: test.wrongCount };
}

async function close(browser) {
    if (!browser) return;
    browser.removeAllListeners('disconnected');
    const slow = new Promise((done) => setTimeout(done, 10_000).unref());
    await Promise.race([browser.close().catch(() => {}), slow]);
    // What is left of it: puppeteer makes a process group for each browser.
    try {
        process.kill(-browser.process().pid, 'SIGKILL');
    } catch {
        // Nothing is left.
    }
}
