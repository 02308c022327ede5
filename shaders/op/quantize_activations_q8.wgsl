// quantize_activations_q8:   for token, chunk: codes = round(x / d), d = max |x| / 127 over 32
// activations, nearly
//
// One invocation quantizes one chunk. Every step is exact or rounds once, and nothing is divided,
// so that the CPU gets the same bits: the maximum is rounded up to 12 bits, and its reciprocal is
// an integer quotient. Twin: src/kernel/op/quantize_activations_q8.rs.
// Needs: WORKGROUP.

@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;  // [n, code_place(chunk, part)]: codes; codes; scale, sums of 16 codes each

// Scale and its reciprocal for 32 activations, the largest of which has magnitude `top`; both zero
// below 2^-111.
fn scales(top: u32) -> vec2<f32> {
    let up = (top + 0xfffu) & 0xfffff000u;
    let e = up >> 23u;
    let m = ((up >> 12u) & 0x7ffu) | 0x800u;
    let d = bitcast<u32>(f32(m) * (1.0 / 127.0));
    let id = bitcast<u32>(f32((127u << 24u) / m));
    // Times 2^(e - 138) and 2^(114 - e): in the exponents.
    let scaled = bitcast<vec2<f32>>(vec2<u32>(d + (e << 23u) - (138u << 23u), id + (114u << 23u) - (e << 23u)));
    return select(vec2<f32>(0.0), scaled, e >= 16u);
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
    let d = scales(given.top);
    var codes: array<u32, 8>;
    var sums: array<i32, 2>;
    for (var j = 0u; j < 8u; j++) {
        let q = vec4<i32>(round(values[j] * d.y));
        codes[j] = pack4xI8(q);
        sums[j >> 2u] += q.x + q.y + q.z + q.w;
    }
    let to = token * code_room(params.chunk_end, 3u);
    y[to + code_place(chunk, 0u, 3u)] = vec4<u32>(codes[0], codes[1], codes[2], codes[3]);
    y[to + code_place(chunk, 1u, 3u)] = vec4<u32>(codes[4], codes[5], codes[6], codes[7]);
    y[to + code_place(chunk, 2u, 3u)] = vec4<u32>(bitcast<u32>(d.x), bitcast<u32>(sums[0]), bitcast<u32>(sums[1]), 0u);
}
