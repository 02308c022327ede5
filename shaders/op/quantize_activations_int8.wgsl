// quantize_activations_int8:   for token, i: codes = round(half(x) * (127 / absmax)), absmax = max
// over i of |half(x)| below the threshold; outliers 0
//
// One workgroup does one token. Its codes lie as those of `quantize_activations_q8`, with the same
// scale for every chunk. Twin: src/kernel/op/llm_int8.rs.
// Needs: WORKGROUP.

struct Params {
    cols: u32,      // k
    chunk_end: u32, // chunks of 32 features
    x_offset: u32,  // element of x where token 0 starts
    x_stride: u32,  // elements from one token to the next
    y_stride: u32,  // elements from one token to the next
    threshold: f32, // where outliers begin, 0 for never
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;  // [n, code_place(chunk, part)]: codes; codes; scale, sums of 16 codes each, absmax

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid);
    if (i >= span.count) {
        return;
    }
    let token = span.first + i;
    let first = params.x_offset + token * params.x_stride;
    let top = largest_inside(first, lane);
    let inverse = reciprocal(top);
    let scale = bitcast<u32>(bitcast<f32>(top) * (1.0 / 127.0));
    for (var chunk = lane; chunk < params.chunk_end; chunk += WORKGROUP) {
        let left_out = outlier_word(chunk);
        var codes: array<u32, 8>;
        var sums = vec2<i32>(0);
        for (var j = 0u; j < 32u; j++) {
            let k = chunk * 32u + j;
            if (k < params.cols && ((left_out >> j) & 1u) == 0u) {
                let q = code(input(first + k), inverse);
                codes[j >> 2u] |= (bitcast<u32>(q) & 255u) << (8u * (j & 3u));
                sums += select(vec2<i32>(0, q), vec2<i32>(q, 0), j < 16u);
            }
        }
        let to = (token * params.y_stride) / 4u;
        y[to + code_place(chunk, 0u, 3u)] = vec4<u32>(codes[0], codes[1], codes[2], codes[3]);
        y[to + code_place(chunk, 1u, 3u)] = vec4<u32>(codes[4], codes[5], codes[6], codes[7]);
        y[to + code_place(chunk, 2u, 3u)] = vec4<u32>(scale, bitcast<vec2<u32>>(sums), top);
    }
}
