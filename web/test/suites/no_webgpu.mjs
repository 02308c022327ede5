// A browser without WebGPU: the page says so, and what to switch on.
export const webgpu = false;

export default async function (test) {
    const page = await test.open('/', { width: 390, height: 844 });
    await page.waitForSelector('html[data-ready]');
    const said = await page.$eval('#problem', (element) => element.innerText);
    test.check(/No (WebGPU|GPU adapter)/.test(said) && /dom\.webgpu\.enabled/.test(said), 'the page says what to switch on', said);
    await test.shot(page, 'no-webgpu-390');
    // A file can be looked at nevertheless.
    await test.drop(page, '#drop', '/files/data/storybook-3.7M-Q4_0.gguf');
    await page.waitForSelector('#check-file');
    test.check(await page.$eval('#check-file', (button) => button.disabled), 'but not checked');
}
