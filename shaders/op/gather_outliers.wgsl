// gather_outliers:   for col, i: y[col, i] = x[col, list[i]], zero behind the end of the list up to
// a whole chunk
//
// One invocation does one chunk of one column. Chunks behind the end of the list are nobody's.
// Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;              // [batch, k]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [batch, k up to whole chunks]
@group(0) @binding(6) var<storage, read> routes: array<u32>;         // mask; at params.experts.x: count, 0, 0, 0, then the list

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let col = i % params.batch;
    let first = i / params.batch * 32u;
    let count = routes[params.experts.x];
    if (first >= count) {
        return;
    }
    for (var j = first; j < first + 32u; j++) {
        let value = x[params.x_offset + col * params.x_stride + routes[params.experts.x + 4u + j]];
        y[col * params.y_stride + j] = select(0.0, value, j < count);
    }
}
