// dequantize:   for row, k: y[row, k] = w[row_begin + row, k]
//
// One invocation decodes and writes 32 weights. Needs: WORKGROUP.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    decode_init(lane);
    let i = group_index(group, grid) * WORKGROUP + lane;
    let row = i / params.chunk_end;
    let k = (i % params.chunk_end) * 32u;
    if (row < params.batch) {
        let w_row = params.row_begin + row;
        store32(row, w_row, k, decode32(w_row, k));
    }
}
