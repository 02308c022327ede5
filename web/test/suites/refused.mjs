// Files that are not what they should be, and servers that do not give what is asked for: what the page says of them.
import { ready } from './page.mjs';

export const timeout = 600;

const text = (page, selector) => page.$eval(selector, (element) => element.innerText);

export default async function (test) {
    await files(test);
    await addresses(test);
}

async function files(test) {
    const page = await test.open('/');
    await ready(page);
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
        ['half.gguf', 100_000, /half\.gguf cannot be opened.*file of 100000: it is truncated, its header describes 2256928 bytes/s],
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
    const page = await test.open('/');
    await ready(page);
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
            (address) => !document.querySelector('#file > .quiet') && document.querySelector('#file .name')?.textContent.startsWith(address),
            {},
            address,
        );
        const said = await text(page, '#file');
        test.check(wanted.test(said), `${address} is told`, said);
    }
    await page.close();
}
