// A chunk of four rows times every column of the tile, one after the other.

fn add_chunk(t: Tile, a: W, b: W, c: W, d: W, k: u32, lane: u32, sums: ptr<function, array<vec4<f32>, COLS>>) {
    for (var i = 0u; i < COLS; i++) {
        (*sums)[i] = dot_rows(t, a, b, c, d, i, k, lane, (*sums)[i]);
    }
}
