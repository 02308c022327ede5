// Tint, the compiler of Chromium, over composed shaders: unlike naga it knows which control flow is uniform.
//   node tint.mjs [--default-limits] FOLDER-OF-THE-PACKAGE-webgpu SHADER.wgsl...
// on a device with the limits of the adapter, or with those that WebGPU gives to who asks for none. Prints `pass NAME`, `pass NAME
// with subgroups` or `FAIL NAME: message` for each. A pipeline is made as well, so the driver below sees Tint's SPIR-V too.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const defaults = process.argv[2] === '--default-limits';
const [folder, ...files] = process.argv.slice(defaults ? 3 : 2);
const dawn = createRequire(import.meta.url)(join(folder, 'dist', `${process.platform}-${process.arch}`, 'dawn.node'));
Object.assign(globalThis, dawn.globals);
const gpu = dawn.create(['enable-dawn-features=allow_unsafe_apis']);

const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error('Dawn finds no adapter');
const wanted = ['shader-f16', 'subgroups'];
const missing = wanted.filter((feature) => !adapter.features.has(feature));
if (missing.length) throw new Error(`Dawn's adapter lacks ${missing}`);
const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize } = adapter.limits;
const limits = { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize };
const requiredLimits = defaults ? {} : limits;
const device = await adapter.requestDevice({ requiredFeatures: wanted, requiredLimits });
globalThis.kept = [gpu, adapter, device]; // Dawn ends badly if these are collected
console.error(`Dawn on ${adapter.info.description || adapter.info.device || adapter.info.vendor}`);

// naga rejects the directive that the standard asks for. Shaders that only mention subgroups in comments do without it.
const ENABLE = 'enable subgroups;\n';
const USES = /\bsubgroup[A-Z]\w*\(|\bquadSwap\w+\(|@builtin\(subgroup_/;
for (const file of files) {
    const text = readFileSync(file, 'utf8');
    const subgroups = USES.test(text);
    const code = subgroups ? ENABLE + text : text;
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter((m) => m.type === 'error').map((m) => `line ${m.lineNum}: ${m.message}`);
    if (!errors.length) device.createComputePipeline({ layout: 'auto', compute: { module } });
    const error = await device.popErrorScope();
    if (!errors.length && error) errors.push(error.message);
    const name = basename(file);
    console.log(errors.length ? `FAIL ${name}: ${errors.join('; ').replace(/\s+/g, ' ')}` : `pass ${name}${subgroups ? ' with subgroups' : ''}`);
}
process.exit(0);
