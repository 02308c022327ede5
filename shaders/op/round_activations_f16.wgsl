// round_activations_f16:   for token: y[token] = half(x[token] / s), s the power of two that brings the
// largest below 2^15
//
// One workgroup does one token. A power of two rounds nothing, and halves are rounded by
// `lib/halves.wgsl`. Twin: src/kernel/op/round_activations_f16.rs.
// Needs: WORKGROUP.

struct Params {
    cols: u32,      // k
    chunk_end: u32, // chunks of 32 features
    x_offset: u32,  // element of x where token 0 starts
    x_stride: u32,  // elements from one token to the next
    y_stride: u32,  // elements from one token to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [n]: scale, 0, 0, 0; then pairs of halves [k up to whole chunks]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid);
    if (i >= span.count) {
        return;
    }
    let token = span.first + i;
    let first = params.x_offset + token * params.x_stride;
    var top = 0u;
    for (var i = lane; i < params.cols; i += WORKGROUP) {
        top = max(top, bitcast<u32>(input(first + i)) & 0x7fffffffu);
    }
    top = largest(lane, top);
    // The largest becomes 2^14 or more; below 2^-97 it becomes less.
    let e = max(top >> 23u, 30u);
    let inverse = bitcast<f32>((268u - e) << 23u);
    let to = token * params.y_stride;
    if (lane < 4u) {
        y[to + lane] = select(0u, (e - 14u) << 23u, lane == 0u);
    }
    for (var i = lane; i < params.chunk_end * 16u; i += WORKGROUP) {
        let last = params.cols - 1u;
        let lo = select(0.0, input(first + min(2u * i, last)), 2u * i < params.cols);
        let hi = select(0.0, input(first + min(2u * i + 1u, last)), 2u * i + 1u < params.cols);
        y[to + 4u + i] = half_bits(lo * inverse) | (half_bits(hi * inverse) << 16u);
    }
}
