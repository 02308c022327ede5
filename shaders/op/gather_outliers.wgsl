// gather_outliers:   for token, i: y[token, i] = x[token, list[i]], zero behind the end of the list up to
// a whole chunk
//
// One invocation does one chunk of one token. Chunks behind the end of the list are nobody's.
// Needs: WORKGROUP.

struct Params {
    x_offset: u32, // element of x where token 0 starts
    x_stride: u32, // elements from one token to the next
    y_stride: u32, // elements from one token to the next
    list: u32,     // word of `list` where the count is
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [n, k up to whole chunks]
@group(0) @binding(6) var<storage, read> list: array<u32>;           // mask; at params.list: count, 0, 0, 0, then the list

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * WORKGROUP + lane;
    let token = span.first + i % span.count;
    let first = i / span.count * 32u;
    let count = list[params.list];
    if (first >= count) {
        return;
    }
    for (var j = first; j < first + 32u; j++) {
        let value = input(params.x_offset + token * params.x_stride + list[params.list + 4u + j]);
        y[token * params.y_stride + j] = select(0.0, value, j < count);
    }
}
