// A browser that has no GPU adapter for pages, or no WebGPU at all.
export const webgpu = false;

export default async function (test) {
    const page = await test.open('/test/blank.html');
    const adapter = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
    test.equal(adapter, false, 'this browser offers no GPU adapter');
}
