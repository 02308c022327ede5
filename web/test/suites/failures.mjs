// What goes wrong with a GPU, and what the page says of it: a mistake in a shader, one that does not compile, a lost device, no adapter.
import { ready } from './page.mjs';
import { fileURLToPath } from 'node:url';

export const timeout = 1800;

const tests = fileURLToPath(new URL('../../../tests/', import.meta.url));
const text = (page, selector) => page.$eval(selector, (element) => element.innerText);

// A page whose engine runs in the page itself and not in a worker, after `before` ran: what is wrong is done from outside.
async function opened(test, before) {
    const page = await test.open('/', undefined, before);
    await ready(page);
    return page;
}

async function checked(page, batches = '1') {
    await page.click('#options-title');
    await page.$eval('#batches', (input, batches) => (input.value = batches), batches);
    await (await page.$('#picker')).uploadFile(`${tests}data/storybook-3.7M-Q4_0.gguf`);
    await page.waitForSelector('#check-file');
    await page.click('#check-file');
}

const ended = (page) => page.waitForSelector('#running', { hidden: true, timeout: 600_000 });

export default async function (test) {
    await plantedMistake(test);
    await brokenShader(test);
    await destroyed(test);
    await noAdapter(test);
}

// In a worker the tests could not reach: the page is made to believe that workers have no WebGPU.
function inPage() {
    window.Worker = class {
        postMessage({ id }) {
            setTimeout(() => this.onmessage({ data: { id, result: { gpu: false, adapter: false } } }));
        }
        terminate() {}
    };
}

async function plantedMistake(test) {
    const page = await opened(
        test,
        `(${inPage})(); {
            const make = GPUDevice.prototype.createShaderModule;
            GPUDevice.prototype.createShaderModule = function (descriptor) {
                // The offset of Q4_0's codes.
                return make.call(this, { ...descriptor, code: descriptor.code.replaceAll('8.0', '7.0') });
            };
        }`,
    );
    await checked(page);
    await ended(page);
    const [verdict, wrong] = [await text(page, '#verdict'), await text(page, '#wrong')];
    test.check(/^WRONG \d+ of \d+ checks/.test(verdict), 'a mistake in a shader is found', verdict);
    test.check(/row \d+, column \d+.*got .*, want /.test(wrong), 'and placed', wrong);
    await test.shot(page, 'wrong-1280');
    await page.close();
}

async function brokenShader(test) {
    const page = await opened(
        test,
        `(${inPage})(); {
            const make = GPUDevice.prototype.createShaderModule;
            GPUDevice.prototype.createShaderModule = function (descriptor) {
                return make.call(this, { ...descriptor, code: descriptor.code.replace('fn main(', 'fn main(@builtin(nothing) broken: u32, ') });
            };
        }`,
    );
    test.tolerate(/nothing|broken|[Ii]nvalid|[Ss]hader|Pipeline/);
    await checked(page);
    await ended(page);
    const wrong = await text(page, '#wrong');
    test.check(/compiling .* for .*shaders\/.*\.wgsl:\d+: .*nothing/s.test(wrong), 'a shader that does not compile is named, with its place and the compiler’s words', wrong);
    await page.close();
}

async function destroyed(test) {
    const page = await opened(
        test,
        `(${inPage})(); {
            const request = GPUAdapter.prototype.requestDevice;
            GPUAdapter.prototype.requestDevice = async function (descriptor) {
                window.last = await request.call(this, descriptor);
                return window.last;
            };
        }`,
    );
    test.tolerate(/[Dd]estroyed|[Ll]ost|[Ii]nvalid|Abort|Operation/);
    await checked(page, '1, 8');
    await page.waitForFunction(() => document.querySelector('#progress').value >= 2, { timeout: 300_000 });
    await page.evaluate(() => window.last.destroy());
    await ended(page);
    await page.waitForSelector('#again');
    const [problem, verdict] = [await text(page, '#problem'), await text(page, '#verdict')];
    test.check(/The device is lost.*destroy/is.test(problem), 'a device that is destroyed while it works', problem);
    test.check(/^(INTERRUPTED|WRONG)/.test(verdict), 'what was found until then', verdict);
    await test.shot(page, 'lost-1280');
    await page.click('#again');
    await page.waitForFunction(() => !document.querySelector('#check-file').disabled);
    await page.$eval('#batches', (input) => (input.value = '1'));
    await page.click('#check-file');
    await page.waitForSelector('#running:not([hidden])');
    await ended(page);
    test.check(/^OK/.test(await text(page, '#verdict')), 'the device opened again', await text(page, '#verdict'));
    await page.evaluate(() => window.last.destroy());
    await page.waitForSelector('#again');
    test.right();
    await page.close();
}

async function noAdapter(test) {
    const page = await opened(test, `(${inPage})(); GPU.prototype.requestAdapter = async () => null;`);
    test.check(/No GPU adapter.*Chrome.*Firefox.*Safari/s.test(await text(page, '#problem')), 'no adapter', await text(page, '#problem'));
    test.check(await page.$eval('#check', (button) => button.disabled), 'nothing can be checked then');
    await test.shot(page, 'no-adapter-1280');
    await page.close();
}
