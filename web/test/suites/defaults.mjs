// A device of WebGPU's least limits: 8 storage buffers, 128 MiB a binding, 16 KiB of workgroup memory, 256 invocations.
import { checkCase, engine, openDevice } from '../engine.mjs';

export const timeout = 3600;

export default async function (test) {
    const page = await engine(test, () => {
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (descriptor) {
            const device = await request.call(this, { ...descriptor, requiredLimits: {} });
            window.limits = { memory: device.limits.maxComputeWorkgroupStorageSize, buffers: device.limits.maxStorageBuffersPerShaderStage };
            return device;
        };
    });
    for (const software of [false, true]) {
        await openDevice(page, { software });
        test.equal(await page.evaluate(() => window.limits), { memory: 16384, buffers: 8 }, 'the least limits');
        for (const format of await page.evaluate(() => JSON.parse(engine.Checks.formats()))) {
            await checkCase(test, page, { format, shape: [95, 256], batches: [1, 3, 8, 64] });
        }
        for (const format of ['Q4_0', 'NF4', 'IQ4_NL']) {
            await checkCase(test, page, { format, shape: [67, 2304], batches: [1, 8, 33], how: 'each' });
        }
        // 170 MiB: two bindings.
        if (!software) await checkCase(test, page, { format: 'Q8_0', shape: [20_480, 8192], batches: [1] });
    }
}
