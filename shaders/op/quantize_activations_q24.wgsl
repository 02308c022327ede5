// quantize_activations_q24:   for token, chunk: X = round(x / s), s a power of two for 32
// activations, so that X is an integer of three signed bytes
//
// One invocation quantizes one chunk. Every step is exact but the rounding, so that the CPU gets
// the same bits. Twin: src/kernel/op/quantize_activations_q24.rs.
// Needs: WORKGROUP.

@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;  // [n, code_place(chunk, part)]: two parts for each byte, the highest first; then s, sums of 16 integers each

// s and its reciprocal for 32 activations, the largest of which has magnitude `top`: that becomes
// at most 127 * 65536. Both zero below 2^-104; NaN for what is not finite.
fn scales(top: u32) -> vec2<f32> {
    let e = (top + 0x20000u) >> 23u;
    let s = bitcast<vec2<f32>>(vec2<u32>((e - 22u) << 23u, (276u - e) << 23u));
    let finite = select(vec2<f32>(0.0), s, e >= 23u);
    return select(bitcast<vec2<f32>>(vec2<u32>(top | 0x400000u, 0u)), finite, top < 0x7f800000u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let chunk = i % params.chunk_end;
    if (i >= span.count * params.chunk_end) {
        return;
    }
    let token = span.first + i / params.chunk_end;
    let given = read_chunk(token, chunk);
    var values = given.v;
    let s = scales(given.top);
    var high: array<u32, 8>;
    var middle: array<u32, 8>;
    var low: array<u32, 8>;
    var sums: array<i32, 2>;
    for (var j = 0u; j < 8u; j++) {
        let q = vec4<i32>(round(values[j] * s.y));
        sums[j >> 2u] += (q.x + q.y) + (q.z + q.w);
        let a = (q + 0x8080) >> vec4<u32>(16u);
        let rest = q - a * 65536;
        let b = (rest + 0x80) >> vec4<u32>(8u);
        high[j] = pack4xI8(a);
        middle[j] = pack4xI8(b);
        low[j] = pack4xI8(rest - b * 256);
    }
    let to = token * code_room(params.chunk_end, 7u);
    y[to + code_place(chunk, 0u, 7u)] = vec4<u32>(high[0], high[1], high[2], high[3]);
    y[to + code_place(chunk, 1u, 7u)] = vec4<u32>(high[4], high[5], high[6], high[7]);
    y[to + code_place(chunk, 2u, 7u)] = vec4<u32>(middle[0], middle[1], middle[2], middle[3]);
    y[to + code_place(chunk, 3u, 7u)] = vec4<u32>(middle[4], middle[5], middle[6], middle[7]);
    y[to + code_place(chunk, 4u, 7u)] = vec4<u32>(low[0], low[1], low[2], low[3]);
    y[to + code_place(chunk, 5u, 7u)] = vec4<u32>(low[4], low[5], low[6], low[7]);
    y[to + code_place(chunk, 6u, 7u)] = vec4<u32>(bitcast<u32>(s.x), bitcast<u32>(sums[0]), bitcast<u32>(sums[1]), 0u);
}
