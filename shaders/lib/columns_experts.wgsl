// Each column of the batch has its own matrix of a stack, by number. `route_experts` has sorted the
// columns by it and cut each run of one expert into tiles.

@group(0) @binding(6) var<storage, read> routes: array<u32>;  // [count] columns in order; then [tiles, 4]: expert, first, end, 0

struct Columns {
    base: u32,
    first: u32,
    end: u32,
}

// Tiles for any way the columns may fall on experts: the last of each expert may not be full.
fn column_tiles(cols: u32) -> u32 {
    return span.count / cols + min(params.experts, span.count);
}

fn tile_columns(i: u32, cols: u32) -> Columns {
    let at = span.count + 4u * i;
    let expert = routes[at] - params.expert_begin;  // wraps to a large number below the shard
    let here = expert < params.expert_count;
    return Columns(select(0u, expert * params.rows, here), routes[at + 1u], select(0u, routes[at + 2u], here));
}

fn y_column(t: Tile, i: u32) -> u32 {
    return span.first + routes[min(t.col + i, t.end - 1u)];
}

fn x_column(t: Tile, i: u32) -> u32 {
    return y_column(t, i) / params.per;
}
