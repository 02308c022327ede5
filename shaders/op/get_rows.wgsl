// get_rows:   for i, k: y[i, k] = w[rows[i], k], for those rows[i] that lie in this shard
//
// One invocation decodes and writes 32 weights. Needs: WORKGROUP.

struct Params {
    plane_offset: vec4<u32>, // first word of each plane
    plane_stride: vec4<u32>, // words from one row of the plane to the next
    rows: u32,               // rows of the shard
    cols: u32,               // k
    row_begin: u32,          // row of the tensor where the shard starts
    chunk_end: u32,          // chunks of 32 features
    x_offset: u32,           // row number of token 0
    y_offset: u32,           // element of y where token 0 starts
    y_stride: u32,           // elements from one token to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<u32>;  // [n] row numbers of the whole tensor

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    decode_init(lane);
    let index = group_index(group, grid) * WORKGROUP + lane;
    let i = index / params.chunk_end;
    let k = (index % params.chunk_end) * 32u;
    if (i < span.count) {
        let row = x[params.x_offset + span.first + i] - params.row_begin;  // wraps to a large number below the shard
        if (row < params.rows) {
            store32(span.first + i, row, k, decode32(row, k));
        }
    }
}
