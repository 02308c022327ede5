// Each column of the batch has its own matrix of a stack, by number. `route_experts` has sorted the
// columns by it and cut each run of one expert into tiles.

@group(0) @binding(6) var<storage, read> routes: array<u32>;  // [workgroup columns, 4]: expert, first, end, 0; then [batch] columns in order

struct Columns {
    base: u32,
    first: u32,
    end: u32,
}

fn tile_columns(i: u32, cols: u32) -> Columns {
    let expert = routes[4u * i] - params.experts.x;  // wraps to a large number below the shard
    let here = expert < params.experts.y;
    return Columns(select(0u, expert * params.rows, here), routes[4u * i + 1u], select(0u, routes[4u * i + 2u], here));
}

fn y_column(t: Tile, i: u32) -> u32 {
    return routes[4u * params.experts.w + min(t.col + i, t.end - 1u)];
}

fn x_column(t: Tile, i: u32) -> u32 {
    return y_column(t, i) / params.experts.z;
}
