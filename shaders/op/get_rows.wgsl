// get_rows:   for i, k: y[i, k] = w[rows[i], k], for those rows[i] that lie in this shard
//
// One invocation decodes and writes 32 weights. Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<u32>;  // [batch] row numbers of the whole tensor

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    decode_init(lane);
    let index = group_index(group, grid) * WORKGROUP + lane;
    let i = index / params.chunk_end;
    let k = (index % params.chunk_end) * 32u;
    if (i < params.batch) {
        let row = x[params.x_offset + i] - params.row_begin;  // wraps to a large number below the shard
        if (row < params.rows) {
            store32(i, row, k, decode32(row, k));
        }
    }
}
