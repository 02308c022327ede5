// gather_columns:   for col, i < chosen: y[col, i] = x[col, list[i]]
//
// One invocation does one element. The list is as long as a row of y: nothing is written behind it.
// Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;              // [batch, k]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [batch, chosen]
@group(0) @binding(6) var<storage, read> routes: array<u32>;         // [chosen] columns of x

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let col = i / params.y_stride;
    if (col >= params.batch) {
        return;
    }
    let j = i % params.y_stride;
    y[params.y_offset + i] = x[params.x_offset + col * params.x_stride + routes[j]];
}
