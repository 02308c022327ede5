// The part of y that a workgroup computes: some rows by some columns of the batch, over one split
// of k.

@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [split, n, m]

struct Tile {
    row: u32,          // first row
    base: u32,         // row of w where the matrix begins
    col: u32,          // first column, counted in the span
    end: u32,          // column behind the last that there is
    chunk_begin: u32,  // chunks of k: begin .. end
    chunk_end: u32,
    y: u32,            // element of y where the split begins
}

// Tiles of one split, each with `cols` columns.
fn tiles_of_split(cols: u32) -> u32 {
    return params.row_groups * column_tiles(cols);
}

// False for workgroups behind the last tile: the folded grid may hold more.
fn has_tile(id: u32, cols: u32) -> bool {
    return id < tiles_of_split(cols) * params.splits;
}

// The tile of workgroup `id` of a grid of rows x columns x splits, each tile `rows` by `cols`.
// Nothing is divided where there is one split and one tile of columns: for few chunks of k that is
// a third as much work as the products.
fn tile(id: u32, rows: u32, cols: u32) -> Tile {
    var split = 0u;
    var in_split = id;
    if (MAY_SPLIT) {
        let in_one = tiles_of_split(cols);
        split = id / in_one;
        in_split = id % in_one;
    }
    var row_group = in_split;
    var column_group = 0u;
    if (in_split >= params.row_groups) {
        row_group = in_split % params.row_groups;
        column_group = in_split / params.row_groups;
    }
    let columns = tile_columns(column_group, cols);
    // What is summed in parts has room for the tokens of the span alone.
    let in_partial = select(0u, span.first * params.y_stride, params.splits > 1u);
    let begin = params.chunk_begin + split * params.split_chunks;
    return Tile(
        row_group * rows, columns.base, columns.first, columns.end,
        begin, min(begin + params.split_chunks, last_chunk()), params.y_offset + split * params.split_stride - in_partial);
}

// The row of w for row `i` of the tile; rows past the last repeat it.
fn w_row(t: Tile, i: u32) -> u32 {
    return t.base + min(t.row + i, params.rows - 1u);
}

// Writes the sum for row and column i of the tile, unless it lies outside y.
fn put(t: Tile, row: u32, col: u32, sum: f32) {
    put_scaled(t, row, col, sum, 1.0);
}

// The same, of a row that `scale` was taken out of. The smaller of two powers of two comes first,
// so that nothing overflows on the way to a result that does not.
fn put_scaled(t: Tile, row: u32, col: u32, sum: f32, scale: f32) {
    if (t.row + row < params.rows && t.col + col < t.end) {
        let at = t.y + y_column(t, col) * params.y_stride + t.row + row;
        let other = x_scale(x_column(t, col));
        let product = sum * min(scale, other) * max(scale, other) * row_factor(t.base + t.row + row);
        y[at] = finished(product + select(0.0, y[at], params.accumulate == 1u), y_column(t, col), t.row + row);
    }
}
