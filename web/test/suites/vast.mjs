// A file of 6 GB, most of which is not there: listed, and one tensor checked, in little memory.
import { engine, openDevice, count } from '../engine.mjs';

export const timeout = 900;

export default async function (test) {
    const large = 3 * 2 ** 30;
    const tensors = { a: ['F16', [large / 8192, 4096], 0, large], b: ['F16', [large / 8192, 4096], large, 2 * large], c: ['F32', [3, 512], 2 * large, 2 * large + 6144] };
    const entries = Object.entries(tensors).map(([name, [dtype, shape, from, to]]) => [name, { dtype, shape, data_offsets: [from, to] }]);
    const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    const values = Buffer.from(Float32Array.from({ length: 1536 }, (_, i) => (i % 17) - 8).buffer);
    const end = 8 + json.length + 2 * large;
    await test.server.make('vast.safetensors', end + values.length, [{ at: 0, bytes: Buffer.concat([length, json]) }, { at: end, bytes: values }]);

    // Of a server, and as a file that the browser has on the disk.
    const page = await engine(test);
    await openDevice(page);
    test.server.log.length = 0;
    const byUrl = await page.evaluate(run, test.url('/made/vast.safetensors'));
    told(test, byUrl, 'by its address');
    test.check(/vast.safetensors.*more than an allocation can hold/.test(byUrl.large), 'a tensor that no page holds', byUrl.large);
    const fetched = test.server.log.filter(({ path }) => path.includes('vast')).reduce((sum, { bytes }) => sum + bytes, 0);
    test.check(fetched < 1 << 20, 'little of it is fetched', fetched);
    test.check(byUrl.memory <= 300e6, 'it takes at most 300 MB of wasm memory', byUrl.memory);
    test.note(`${fetched} bytes fetched, ${byUrl.memory} bytes of wasm memory`);

    const { made } = test.server;
    const chosen = await test.open('/test/engine.html');
    await chosen.waitForFunction(() => window.engine);
    await openDevice(chosen);
    await chosen.evaluate(() => document.body.append(Object.assign(document.createElement('input'), { type: 'file' })));
    await (await chosen.$('input')).uploadFile(`${made}/vast.safetensors`);
    const byFile = await chosen.evaluate(run, null);
    told(test, byFile, 'as a file');
    test.check(byFile.memory <= 300e6, 'it takes at most 300 MB of wasm memory as a file', byFile.memory);
}

function told(test, { bytes, names, outcomes }, how) {
    test.check(bytes > 6e9, `6 GB ${how}`, bytes);
    test.equal(names, ['a', 'b', 'c'], `its tensors ${how}`);
    count(test, outcomes, `vast.safetensors ${how}`);
}

// Runs in the page.
async function run(url) {
    const chosen = url ? null : document.querySelector('input').files[0];
    const file = url ? await engine.ModelFile.openUrl(url) : await engine.ModelFile.open([chosen.name], [chosen]);
    const checks = new engine.Checks(device, 'check');
    const names = JSON.parse(file.tensors()).map(({ name }) => name);
    await checks.addTensor(file, names.indexOf('c'), Uint32Array.of(1, 8), 'f32');
    const large = await checks.addTensor(file, names.indexOf('a'), Uint32Array.of(1), 'f32').catch(({ message }) => message);
    return { large, bytes: JSON.parse(file.summary()).bytes, names, outcomes: JSON.parse(checks.outcomes(0)), memory: engine.memoryBytes() };
}
