// Activations from where they lie.

fn x_stage(t: Tile, k: u32, lane: u32) {}

fn x_chunk(t: Tile, i: u32, k: u32, lane: u32) -> X {
    let col = x_column(t, i);
    return X(array<vec4<f32>, 8>(
        x_vec4(col, k), x_vec4(col, k + 4u), x_vec4(col, k + 8u), x_vec4(col, k + 12u),
        x_vec4(col, k + 16u), x_vec4(col, k + 20u), x_vec4(col, k + 24u), x_vec4(col, k + 28u)));
}
