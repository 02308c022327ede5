// Activations as `round_activations_f16` leaves them: halves, a power of two taken out of each
// column, zeros behind the last.

@group(0) @binding(3) var<storage, read> x: array<vec2<u32>>;  // [batch]: scale, 0; 0, 0; then halves [k up to whole chunks]

// Where a column begins, behind its scale.
fn x_start(col: u32) -> u32 {
    return ((params.x_offset + col * params.x_stride) >> 1u) + 2u;
}

// Features 4 i .. 4 i + 4 of the column that begins at `start`, by its scale.
fn x_quad(start: u32, i: u32) -> vec4<f32> {
    let v = x[start + i];
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

// x[col, k .. k + 4] / x_scale(col)
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    return x_quad(x_start(col), k >> 2u);
}

fn x_scale(col: u32) -> f32 {
    return bitcast<f32>(x[x_start(col) - 2u].x);
}
