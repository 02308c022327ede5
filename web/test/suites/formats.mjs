// Every format, with the kernels for GPUs and those for software adapters, all kinds of activations, and several numbers of tokens.
import { checkCase, engine, openDevice } from '../engine.mjs';

export const timeout = 3600;

export default async function (test) {
    const page = await engine(test);
    const formats = await page.evaluate(() => JSON.parse(engine.Checks.formats()));
    test.check(formats.length >= 48, 'all formats are there', formats);
    for (const software of [false, true]) {
        const row = await openDevice(page, { software });
        test.note(`${software ? 'software' : 'GPU'} kernels on ${JSON.stringify(row)}`);
        for (const [i, format] of formats.entries()) {
            if (i % 12 === 0) test.note(`${i} of ${formats.length} formats, ${test.rightCount} right`);
            for (const activations of ['f32', 'f16', 'q8', 'int8']) {
                // Activations that do not suit a format are taken as they are.
                await checkCase(test, page, { format, shape: [95, 256], batches: [1, 3, 8, 64], activations });
            }
        }
    }
}
