// clear_columns:   for col, i < k: y[col, i] = 0 if bit i of the mask is set, else x[col, i]
//
// One invocation does one element. Rows of y are as long as those of x.
// Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;              // [batch, k]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [batch, k]
@group(0) @binding(6) var<storage, read> routes: array<u32>;         // from params.experts.x on: the mask, 32 columns a word

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let col = i / params.y_stride;
    if (col >= params.batch) {
        return;
    }
    let k = i % params.y_stride;
    let cleared = ((routes[params.experts.x + (k >> 5u)] >> (k & 31u)) & 1u) == 1u;
    y[params.y_offset + i] = select(x[params.x_offset + i], 0.0, cleared);
}
