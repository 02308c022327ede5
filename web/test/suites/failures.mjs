// What goes wrong, and what the page says of it: a mistake in a shader, a lost device, files that are not what they should be, servers
// without ranges, browsers without WebGPU or an adapter.
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
    await files(test);
    await addresses(test);
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

async function files(test) {
    const page = await opened(test);
    const { url } = test.server;
    const open = async (name, bytes) => {
        await page.evaluate(
            async (name, from, end) => {
                const whole = new Uint8Array(await (await fetch(from)).arrayBuffer());
                const data = new DataTransfer();
                data.items.add(new File([typeof end === 'string' ? end : whole.subarray(0, end)], name));
                document.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
            },
            name,
            url('/files/data/storybook-3.7M-Q4_0.gguf'),
            bytes,
        );
        await page.waitForFunction((name) => document.querySelector('#file .name')?.textContent.startsWith(name), {}, name);
        return text(page, '#file');
    };
    const cases = [
        ['half.gguf', 100_000, /half\.gguf cannot be opened.*truncated to 100000 bytes/s],
        ['header.gguf', 100, /truncated to 100 bytes/],
        ['empty.gguf', 0, /empty\.gguf cannot be opened/],
        ['model.bin', 'PK\x03\x04 and so on', /looks like a PyTorch file/],
        ['pointer.gguf', 'version https://git-lfs.github.com/spec/v1\n', /Git LFS pointer/],
        ['photo.safetensors', 'GIF89a, which is no model at all', /photo\.safetensors cannot be opened/],
    ];
    for (const [name, bytes, wanted] of cases) {
        const said = await open(name, bytes);
        test.check(wanted.test(said), `${name} is refused`, said);
    }
    await test.shot(page, 'truncated-1280');
    await page.close();
}

async function addresses(test) {
    const page = await opened(test);
    test.tolerate(/404|CORS|Cross-Origin|Failed to load|fetch/i);
    const { url, foreign } = test.server;
    const path = 'data/storybook-3.7M-Q4_0.gguf';
    const cases = [
        [foreign(`/files/${path}`), /GGUF v3/],
        [url(`/whole/${path}`), /whole file where a part was asked for.*download/s],
        [foreign(`/private/${path}`), /does not let other pages read the file/],
        [url('/files/data/no-such.gguf'), /answers with 404/],
        ['http://127.0.0.1:9/model.gguf', /No answer/i],
    ];
    for (const [address, wanted] of cases) {
        await page.$eval('#url', (input, address) => (input.value = address), address);
        await page.click('#address button');
        await page.waitForFunction(
            (address) => !/Opening/.test(document.querySelector('#file').textContent) && document.querySelector('#file .name')?.textContent.startsWith(address),
            {},
            address,
        );
        const said = await text(page, '#file');
        test.check(wanted.test(said), `${address} is told`, said);
    }
    await page.close();
}

async function noAdapter(test) {
    const page = await opened(test, `(${inPage})(); GPU.prototype.requestAdapter = async () => null;`);
    test.check(/No GPU adapter.*Chrome.*Firefox.*Safari/s.test(await text(page, '#problem')), 'no adapter', await text(page, '#problem'));
    test.check(await page.$eval('#check', (button) => button.disabled), 'nothing can be checked then');
    await test.shot(page, 'no-adapter-1280');
    await page.close();
}
