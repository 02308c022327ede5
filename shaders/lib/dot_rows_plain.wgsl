// Four rows times one column of x, 32 weights each, the lane being the row; every lane reads the
// same activations.

fn row_chunk(s: Shared, row: u32, k: u32) -> W {
    return w_chunk(row, k);
}

// s + (a, b, c, d) . x[column i of the tile, k .. k + 32]
fn dot_rows(t: Tile, a: W, b: W, c: W, d: W, i: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    let v = x_chunk(t, i, k, lane);
    return sum + vec4<f32>(dot_chunk(a, v), dot_chunk(b, v), dot_chunk(c, v), dot_chunk(d, v));
}
