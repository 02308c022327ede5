// gather_act_order:   for token, i: y[token, i] = x[token, order[i]]
//
// Activations in the order in which the device has the columns of a weight.
// Needs: WORKGROUP.

struct Params {
    cols: u32,     // k
    x_offset: u32, // element of x where token 0 starts
    x_stride: u32, // elements from one token to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [n, k]
@group(0) @binding(5) var<storage, read> order: array<u32>;    // [k] features of x

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= span.count * params.cols) {
        return;
    }
    let token = span.first + i / params.cols;
    let given = params.x_offset + token * params.x_stride;
    y[span.first * params.cols + i] = input(given + order[i % params.cols]);
}
