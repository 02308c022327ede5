// gemv, up to 8 columns:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A lane has ROWS rows and takes chunks of 32 weights, K_LANES of a row at a time: neighbouring
//    lanes read neighbouring 16-byte words, and every weight is read once for all columns. The
//    other lanes of a workgroup have other rows, which share the activations.
// 2. Rows stay packed in registers until `add_chunk` multiplies them, by activations that it takes
//    from where they lie or from where `x_stage` has put them.
// 3. Addresses are worked out before the loop, which is the same for all lanes. A last pass that
//    has no chunk for some lanes stands behind it (`is_whole` is false there): they repeat a chunk
//    and do not add it.
// 4. The lanes' sums meet in `reduce_*` at the end, those of SUM_COLS columns at a time, as
//    workgroup memory is little.
// Needs: WORKGROUP, ROWS, COLS, SUM_COLS, SUMS = ROWS * SUM_COLS, K_LANES, WHOLE_PASSES: whether no
// row has such a last pass. The entry point is in `reduce_*`.

const ROW_LANES = WORKGROUP / K_LANES;

// Chunks `first` .. `first` + K_LANES, or those of them that there are.
fn add_pass(sums: ptr<function, array<array<f32, COLS>, ROWS>>, places: array<Place, ROWS>, starts: array<u32, COLS>, first: u32, end: u32, lane: u32, is_whole: bool) {
    let along = lane % K_LANES;
    let live = is_whole || first + along < end;
    let chunk = select(first, first + along, live);
    var weights: array<W, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        weights[r] = w_load(places[r], chunk);
    }
    x_stage(starts, first, lane, is_whole);
    add_chunk(sums, weights, starts, chunk, along, live);
}

fn reduced(group: vec3<u32>, grid: vec3<u32>, lane: Lane) {
    let id = group_index(group, grid);
    if (!has_tile(id, COLS)) {
        return;
    }
    decode_init(lane.index);
    w_init(lane.index);
    let t = tile(id, ROW_LANES * ROWS, COLS);
    if (t.col >= t.end) {
        return;
    }
    let first_row = lane.index / K_LANES * ROWS;
    var places: array<Place, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        places[r] = place(w_row(t, first_row + r));
    }
    var starts: array<u32, COLS>;
    for (var c = 0u; c < COLS; c++) {
        starts[c] = x_start(x_column(t, c));
    }

    var sums: array<array<f32, COLS>, ROWS>;
    var first = t.chunk_begin;
    while (first + K_LANES <= t.chunk_end) {
        add_pass(&sums, places, starts, first, t.chunk_end, lane.index, true);
        first += K_LANES;
    }
    if (WHOLE_PASSES == 0u && first < t.chunk_end) {
        add_pass(&sums, places, starts, first, t.chunk_end, lane.index, false);
    }

    for (var phase = 0u; phase < COLS; phase += SUM_COLS) {
        if (phase > 0u) {
            workgroupBarrier();
        }
        for (var r = 0u; r < ROWS; r++) {
            for (var c = 0u; c < SUM_COLS; c++) {
                reduce_put(lane, r * SUM_COLS + c, sums[r][phase + c]);
            }
        }
        workgroupBarrier();
        for (var i = lane.index; i < ROW_LANES * SUMS; i += WORKGROUP) {
            let sum = i % SUMS;
            put(t, i / SUMS * ROWS + sum / SUM_COLS, phase + sum % SUM_COLS, reduce_get(lane, sum, i / SUMS));
        }
    }
}
