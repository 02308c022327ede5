// matmul for software adapters:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. One lane is one row, times four: no reduction, no barrier, no workgroup memory (a barrier costs a coroutine switch there).
// 2. A workgroup is one subgroup and handles 4 * SUBGROUP rows by COLS columns; each chunk of weights is decoded once for all columns.
// 3. The activations are shared out by `dot_rows`: the loads are what costs.
// Needs: SUBGROUP, COLS.

@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [batch, m]

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let id = group_index(group, grid);
    if (id >= params.groups) {
        return;
    }
    decode_init(lane);
    let first = (id % params.row_groups) * (4u * SUBGROUP) + lane;
    let col = (id / params.row_groups) * COLS;
    // Lanes past the last row repeat it and write nothing.
    let last = params.rows - 1u;
    let rows = min(vec4<u32>(first) + vec4<u32>(0u, SUBGROUP, 2u * SUBGROUP, 3u * SUBGROUP), vec4<u32>(last));

    var sums: array<vec4<f32>, COLS>;
    for (var chunk = params.chunk_begin; chunk < params.chunk_end; chunk++) {
        let k = chunk * 32u;
        let a = decode32(rows.x, k);
        let b = decode32(rows.y, k);
        let c = decode32(rows.z, k);
        let d = decode32(rows.w, k);
        for (var i = 0u; i < COLS; i++) {
            sums[i] = dot_rows(a, b, c, d, min(col + i, params.batch - 1u), k, lane, sums[i]);
        }
    }

    for (var i = 0u; i < COLS; i++) {
        for (var r = 0u; r < 4u; r++) {
            let row = first + r * SUBGROUP;
            if (row <= last && col + i < params.batch) {
                let at = params.y_offset + (col + i) * params.y_stride + row;
                y[at] = sums[i][r] + select(0.0, y[at], params.accumulate == 1u);
            }
        }
    }
}
