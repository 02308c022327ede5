// What the browser offers, without the library: a dispatch computes what it should, by each feature that shaders could use.
export default async function (test) {
    const page = await test.open('/test/blank.html');
    const offer = await page.evaluate(probe);
    if (!test.check(offer.adapter, 'WebGPU offers a GPU adapter', offer)) return;
    const { info, features, limits, language, ...results } = offer;
    test.note(`adapter ${JSON.stringify(info)}`);
    test.note(`features ${features.join(' ')}`);
    test.note(`language ${language.join(' ')}`);
    test.note(`limits ${JSON.stringify(limits)}`);
    test.note(`results ${JSON.stringify(results)}`);
    test.equal(results.f32, [1, 3, 5, 7], 'f32');
    test.equal(results.dot, [20, -20, 70, 0], 'a dot product of packed bytes');
    const offered = (feature) => features.includes(feature);
    if (offered('shader-f16')) test.equal(results.f16, [0.5, 1.5, 2.5, 3.5], 'f16');
    if (offered('subgroups')) test.equal(results.subgroups, true, 'the sum of a subgroup');
    if (offered('timestamp-query')) test.check(results.timestamps >= 0, 'timestamps do not run backwards', results.timestamps);
}

// Runs in the page.
async function probe() {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return { adapter: false, gpu: Boolean(navigator.gpu), secure: isSecureContext };
    const { vendor, architecture, device: model, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = adapter.info;
    const features = [...adapter.features].sort();
    const wanted = ['shader-f16', 'subgroups', 'timestamp-query'].filter((feature) => features.includes(feature));
    const device = await adapter.requestDevice({ requiredFeatures: wanted });

    // The words that a shader writes to `y`, four invocations in one workgroup.
    async function words(code, timestampWrites) {
        device.pushErrorScope('validation');
        const module = device.createShaderModule({ code });
        const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
        const y = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
        const read = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: y } }] }));
        pass.dispatchWorkgroups(1);
        pass.end();
        encoder.copyBufferToBuffer(y, 0, read, 0, 16);
        device.queue.submit([encoder.finish()]);
        const error = await device.popErrorScope();
        if (error) throw new Error(error.message);
        await read.mapAsync(GPUMapMode.READ);
        return read.getMappedRange().slice(0);
    }
    const shader = (type, enable, body) => `${enable}
@group(0) @binding(0) var<storage, read_write> y: array<${type}>;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { ${body} }`;
    const attempt = async (run) => {
        try {
            return await run();
        } catch (error) {
            return String(error);
        }
    };

    const result = { adapter: true, features };
    result.info = { vendor, architecture, device: model, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize };
    result.language = [...(navigator.gpu.wgslLanguageFeatures ?? [])].sort();
    result.limits = Object.fromEntries(
        ['maxStorageBuffersPerShaderStage', 'maxStorageBufferBindingSize', 'maxBufferSize', 'maxComputeWorkgroupStorageSize',
            'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupSizeX', 'maxComputeWorkgroupsPerDimension',
            'minStorageBufferOffsetAlignment', 'maxImmediateSize'].map((name) => [name, adapter.limits[name]]),
    );
    result.f32 = await attempt(async () => [...new Float32Array(await words(shader('f32', '', 'y[i] = 2 * f32(i) + 1;')))]);
    result.dot = await attempt(async () => {
        const code = shader('i32', '', 'y[i] = dot4I8Packed(0x04030201u, array(0x02020202u, 0xfefefefeu, 0x07070707u, 0u)[i]);');
        return [...new Int32Array(await words(code))];
    });
    result.f16 = !features.includes('shader-f16') ? null : await attempt(async () => {
        const code = shader('f32', 'enable f16;', 'let h = f16(i) + 0.5h; y[i] = f32(h);');
        return [...new Float32Array(await words(code))];
    });
    result.subgroups = !features.includes('subgroups') ? null : await attempt(async () => {
        // Invocations of this workgroup may be in one subgroup or in several.
        const code = shader('u32', 'enable subgroups;', 'y[i] = subgroupAdd(1u);');
        const counts = [...new Uint32Array(await words(code))];
        return counts.every((count) => count >= 1 && count <= 4 && count === counts[0]) || counts;
    });
    result.timestamps = !features.includes('timestamp-query') ? null : await attempt(async () => {
        const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
        await words(shader('f32', '', 'y[i] = 1;'), { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 });
        const resolved = device.createBuffer({ size: 256, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
        const read = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
        const encoder = device.createCommandEncoder();
        encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, read, 0, 16);
        device.queue.submit([encoder.finish()]);
        await read.mapAsync(GPUMapMode.READ);
        const [begin, end] = new BigUint64Array(read.getMappedRange().slice(0));
        return Number(end - begin);
    });
    return result;
}
