// The example of docs/web.md: a weight that is bound once.
import { engine } from '../engine.mjs';

export default async function (test) {
    const page = await engine(test);
    const [m, k] = [5, 64];
    const results = await page.evaluate(run, m, k);
    for (const { n, got, want } of results) test.equal(got, want, `y of ${n} tokens`);
    const problem = await page.evaluate(() => engine.Projection.load(new Uint8Array(9), 'w').then(() => 'none', (error) => error.message));
    test.check(/page's model/.test(problem), 'what is no model is refused by name', problem);
}

// Runs in the page.
async function run(m, k) {
    // A safetensors file of small integers, whose products are exact in f32.
    const w = Float32Array.from({ length: m * k }, (_, i) => ((i * 7) % 11) - 5);
    const head = new TextEncoder().encode(JSON.stringify({ w: { dtype: 'F32', shape: [m, k], data_offsets: [0, w.byteLength] } }));
    const file = new Uint8Array(8 + head.length + w.byteLength);
    new DataView(file.buffer).setBigUint64(0, BigInt(head.length), true);
    file.set(head, 8);
    file.set(new Uint8Array(w.buffer), 8 + head.length);
    const projection = await engine.Projection.load(file, 'w');
    const results = [];
    for (const n of [1, 3, 8]) {
        const x = Float32Array.from({ length: n * k }, (_, i) => ((i * 5) % 13) - 6);
        const want = Array.from({ length: n * m }, (_, i) => {
            const [t, row] = [Math.floor(i / m), i % m];
            return Array.from({ length: k }, (_, j) => x[t * k + j] * w[row * k + j]).reduce((a, b) => a + b);
        });
        results.push({ n, got: [...(await projection.multiply(x))], want });
    }
    return results;
}
