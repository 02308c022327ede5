// Activations as `round_activations_f16` leaves them, taken as the halves that they are: a power of
// two taken out of each column, zeros behind the last. For kernels that have f16.

@group(0) @binding(3) var<storage, read> x: array<vec4<f16>>;  // [batch]: scale, 0; 0, 0; then halves [k up to whole chunks]

// x[col, k .. k + 4] / x_scale(col) is x[x_place(col) + k / 4].
fn x_place(col: u32) -> u32 {
    return ((params.x_offset + col * params.x_stride) >> 1u) + 2u;
}

// The scale is a power of two from 2^-111 to 2^113, so its low half is 0, and its high half, read
// as f16, a normal number whose exponent and first three bits of mantissa are the exponent of the
// scale.
fn x_scale(col: u32) -> f32 {
    let high = f32(x[x_place(col) - 2u].y);
    return bitcast<f32>(((bitcast<u32>(high) >> 20u) - 896u) << 23u);
}
