// reduce_split_k:   for row, col: y[col, row] = sum over split of x[split, col, row]
//
// One invocation adds up one element, always in the same order. Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;        // [split, batch, rows]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [batch, m]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let col = i / params.rows;
    if (col >= params.batch) {
        return;
    }
    let first = params.x_offset + i;
    var sum = x[first];
    for (var split = 1u; split < params.split_groups; split++) {
        sum += x[first + split * params.split_stride];
    }
    let at = params.y_offset + col * params.y_stride + i % params.rows;
    y[at] = sum + select(0.0, y[at], params.accumulate == 1u);
}
