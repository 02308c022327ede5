// reduce_split_k:   for row, col: y[col, row] = sum over split of x[split, col, row]
//
// One invocation adds up one element, always in the same order. Needs: WORKGROUP.

struct Params {
    rows: u32,         // rows of this shard
    accumulate: u32,   // 1: add to y, 0: overwrite
    finish: u32,       // 1: all of k is summed then
    y_offset: u32,     // element of y where token 0 starts
    y_stride: u32,     // elements from one token to the next
    splits: u32,       // how many are added up
    split_stride: u32, // elements from one to the next
    gate_offset: u32,  // the same of `gate`, where there is one
    gate_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<f32>;        // [split, count, rows]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [n, m]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    if (i >= span.count * params.rows) {
        return;
    }
    let col = span.first + i / params.rows;
    let row = i % params.rows;
    var sum = x[i];
    for (var split = 1u; split < params.splits; split++) {
        sum += x[i + split * params.split_stride];
    }
    let at = params.y_offset + col * params.y_stride + row;
    y[at] = finished(sum + select(0.0, y[at], params.accumulate == 1u), col, row);
}
