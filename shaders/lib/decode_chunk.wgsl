// 32 weights of a row, k a multiple of 32.

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return weights_of(raw32(place(row), k >> 5u), k >> 5u);
}
