// dequantize:   for row, k: y[row, k] = w[row_begin + row, k]
//
// One invocation decodes and writes 32 weights. Needs: WORKGROUP.

struct Params {
    plane_offset: vec4<u32>, // first word of each plane
    plane_stride: vec4<u32>, // words from one row of the plane to the next
    cols: u32,               // k
    row_begin: u32,          // first row of the shard
    rows: u32,               // how many from there
    chunk_end: u32,          // chunks of 32 features
    y_offset: u32,           // element of y where the first row starts
    y_stride: u32,           // elements from one row to the next
}

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    decode_init(lane);
    let i = group_index(group, grid) * WORKGROUP + lane;
    let row = i / params.chunk_end;
    let k = (i % params.chunk_end) * 32u;
    if (row < params.rows) {
        let w_row = params.row_begin + row;
        store32(row, w_row, k, decode32(w_row, k));
    }
}
