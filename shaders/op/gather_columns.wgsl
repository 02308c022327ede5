// gather_columns:   for token, i < chosen: y[token, i] = x[token, list[i]]
//
// One invocation does one element. The list is as long as a row of y: nothing is written behind it.
// Needs: WORKGROUP.

struct Params {
    x_offset: u32, // element of x where token 0 starts
    x_stride: u32, // elements from one token to the next
    y_offset: u32, // element of y where token 0 starts
    y_stride: u32, // how many are chosen
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [n, chosen]
@group(0) @binding(6) var<storage, read> list: array<u32>;           // [chosen] features of x

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= span.count * params.y_stride) {
        return;
    }
    let token = span.first + i / params.y_stride;
    let j = i % params.y_stride;
    y[params.y_offset + token * params.y_stride + j] = input(params.x_offset + token * params.x_stride + list[j]);
}
