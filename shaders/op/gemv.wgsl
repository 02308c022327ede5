// gemv, up to 8 columns:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup handles ROWS rows by COLS columns, its lanes striding over chunks of 32 weights:
//    neighbouring lanes read neighbouring 16-byte words, and every weight is read once for all
//    columns.
// 2. The activations of a chunk are loaded once for all rows, from where `x_stage` puts them while
//    the weights are on their way.
// 3. The lanes' sums meet in `reduce_*` at the end: one barrier.
// Needs: WORKGROUP, ROWS, COLS, SUMS = ROWS * COLS. The entry point is in `reduce_*`.

fn reduced(group: vec3<u32>, grid: vec3<u32>, lane: Lane) {
    let id = group_index(group, grid);
    if (!has_tile(id, COLS)) {
        return;
    }
    decode_init(lane.index);
    let t = tile(id, ROWS, COLS);
    if (t.col >= t.end) {
        return;
    }

    var sums: array<array<f32, COLS>, ROWS>;
    for (var first = t.chunk_begin; first < t.chunk_end; first += WORKGROUP) {
        let live = first + lane.index < t.chunk_end;
        let k = select(first, first + lane.index, live) * 32u;
        var weights: array<W, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            weights[r] = w_chunk(w_row(t, r), k);
        }
        x_stage(t, first * 32u, lane.index);
        for (var c = 0u; c < COLS; c++) {
            let v = x_chunk(t, c, k, lane.index);
            for (var r = 0u; r < ROWS; r++) {
                sums[r][c] += select(0.0, dot_chunk(weights[r], v), live);
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
        put(t, i / COLS, i % COLS, reduce_get(lane, i));
    }
}
