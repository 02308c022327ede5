// gemv, up to 8 columns:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup handles ROWS rows by COLS columns, its lanes striding over chunks of 32 weights: neighbouring lanes read
//    neighbouring 16-byte words, and every weight is read once for all columns.
// 2. The activations of a chunk are loaded once for all rows.
// 3. The lanes' sums meet in `reduce_*` at the end: one barrier.
// Needs: WORKGROUP, ROWS, COLS, SUMS = ROWS * COLS.

@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [batch, m]

fn dot32(w: array<vec4<f32>, 8>, x: array<vec4<f32>, 8>) -> f32 {
    var s = w[0] * x[0];
    s = fma(w[1], x[1], s);
    s = fma(w[2], x[2], s);
    s = fma(w[3], x[3], s);
    s = fma(w[4], x[4], s);
    s = fma(w[5], x[5], s);
    s = fma(w[6], x[6], s);
    s = fma(w[7], x[7], s);
    return (s.x + s.y) + (s.z + s.w);
}

fn x_chunk(col: u32, k: u32) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        x_vec4(col, k), x_vec4(col, k + 4u), x_vec4(col, k + 8u), x_vec4(col, k + 12u),
        x_vec4(col, k + 16u), x_vec4(col, k + 20u), x_vec4(col, k + 24u), x_vec4(col, k + 28u));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, lane: Lane) {
    let id = group_index(group, grid);
    if (id >= params.groups) {
        return;
    }
    decode_init(lane.index);
    let row = (id % params.row_groups) * ROWS;
    let col = (id / params.row_groups) * COLS;
    let last = params.rows - 1u;

    var sums: array<array<f32, COLS>, ROWS>;
    for (var chunk = params.chunk_begin + lane.index; chunk < params.chunk_end; chunk += WORKGROUP) {
        let k = chunk * 32u;
        var weights: array<array<vec4<f32>, 8>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            weights[r] = decode32(min(row + r, last), k);
        }
        for (var c = 0u; c < COLS; c++) {
            let v = x_chunk(min(col + c, params.batch - 1u), k);
            for (var r = 0u; r < ROWS; r++) {
                sums[r][c] += dot32(weights[r], v);
            }
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLS; c++) {
            reduce_put(lane, r * COLS + c, sums[r][c]);
        }
    }
    workgroupBarrier();
    for (var i = lane.index; i < SUMS; i += WORKGROUP) {
        let r = i / COLS;
        let c = i % COLS;
        if (row + r <= last && col + c < params.batch) {
            let at = params.y_offset + (col + c) * params.y_stride + row + r;
            y[at] = reduce_get(lane, i) + select(0.0, y[at], params.accumulate == 1u);
        }
    }
}
