// round_results_f16:   for token, i: y[token, i] = half(x[token, i]), or half(y + x)
//
// One invocation does a word, two halves: tokens start at words. Behind the last of an odd number
// the word keeps its half. Halves are rounded by `lib/halves.wgsl`; `is_written` tells of rows that
// have no x and keep their values. Needs: WORKGROUP.

struct Params {
    width: u32,       // results of a token
    words: u32,       // words of them
    accumulate: u32,  // 1: add to y, 0: overwrite
    x_offset: u32,    // element of x where token 0 starts
    x_stride: u32,    // elements from one token to the next
    y_offset: u32,    // half of y where token 0 starts
    y_stride: u32,    // halves from one token to the next
    list: u32,        // word of `list` where token 0 is, if there is one
    exist: u32,       // numbers below are of what exists
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<f32>;        // [n, m]
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [n, m / 2]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= span.count * params.words) {
        return;
    }
    let token = span.first + i / params.words;
    if (!is_written(token)) {
        return;
    }
    let at = 2u * (i % params.words);
    let sum = params.x_offset + token * params.x_stride + at;
    let to = (params.y_offset + token * params.y_stride + at) >> 1u;
    let old = y[to];
    let both = at + 1u < params.width;
    let given = vec2<f32>(x[sum], x[sum + u32(both)]);
    // Not a sum with 0, which would lose the sign of -0.
    let all = select(given, given + unpack2x16float(old), params.accumulate == 1u);
    let lo = half_bits(all.x);
    let hi = half_bits(all.y);
    y[to] = lo | select(old & 0xffff0000u, hi << 16u, both);
}
