// Every column of the batch is multiplied by the same matrix.

struct Columns {
    base: u32,
    first: u32,
    end: u32,
}

fn column_tiles(cols: u32) -> u32 {
    return (span.count + cols - 1u) / cols;
}

fn tile_columns(i: u32, cols: u32) -> Columns {
    return Columns(0u, i * cols, span.count);
}

// The column of x for column i of the tile; columns past the last repeat it.
fn x_column(t: Tile, i: u32) -> u32 {
    return span.first + min(t.col + i, t.end - 1u);
}

fn y_column(t: Tile, i: u32) -> u32 {
    return span.first + t.col + i;
}
