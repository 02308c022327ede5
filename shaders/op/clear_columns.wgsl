// clear_columns:   for token, i < k: y[token, i] = 0 if bit i of the mask is set, else x[token, i]
//
// One invocation does one element.
// Needs: WORKGROUP.

struct Params {
    x_offset: u32, // element of x where token 0 starts
    x_stride: u32, // elements from one token to the next
    y_offset: u32, // element of y where token 0 starts
    y_stride: u32, // k
    mask: u32,     // first word of the mask
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [n, k]
@group(0) @binding(6) var<storage, read> list: array<u32>;           // from params.mask on: a bit for each feature

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= span.count * params.y_stride) {
        return;
    }
    let token = span.first + i / params.y_stride;
    let k = i % params.y_stride;
    let cleared = ((list[params.mask + (k >> 5u)] >> (k & 31u)) & 1u) == 1u;
    y[params.y_offset + token * params.y_stride + k] = select(input(params.x_offset + token * params.x_stride + k), 0.0, cleared);
}
