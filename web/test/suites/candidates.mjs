// What goes beyond single products: every kernel and variant that a device could be given, experts, layers with a bias and adapters.
import { checkCase, engine, openDevice } from '../engine.mjs';

export const timeout = 3600;

export default async function (test) {
    const page = await engine(test);
    for (const software of [false, true]) {
        await openDevice(page, { software });
        // LLM.int8 has one kernel, which `formats` checks.
        for (const activations of ['f32', 'f16', 'q8']) {
            for (const format of activations === 'q8' ? ['Q4_K', 'Q8_0'] : ['Q4_K', 'NF4', 'F16']) {
                await checkCase(test, page, { format, shape: [67, 2304], batches: [1, 8, 33], activations, how: 'each' });
            }
        }
        for (const format of ['Q4_0', 'Q6_K', 'MXFP4', 'INT8', 'F32']) {
            await checkCase(test, page, { format, shape: [8 * 40, 256], batches: [1, 8, 33], how: 'experts' });
            await checkCase(test, page, { format, shape: [95, 512], batches: [1, 3, 8], how: 'layer' });
        }
        await checkCase(test, page, { format: 'INT8', shape: [95, 512], batches: [1, 8], how: 'layer', activations: 'int8' });
    }
}
