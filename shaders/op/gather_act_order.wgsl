// gather_act_order:   for col, i: y[col, i] = x[col, book[i]]
//
// Activations in the order in which the device has the columns of a weight.
// Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;        // [batch, k]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [batch, k]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= params.batch * params.cols) {
        return;
    }
    let col = i / params.cols;
    y[i] = x[params.x_offset + col * params.x_stride + book[i % params.cols]];
}
