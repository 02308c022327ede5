// F32: plane w, one word a weight.
// w[i] = w[i]
fn decode_init(lane: u32) {}

fn word4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(plane_vec4(0u, row, i));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 2u;
    return array<vec4<f32>, 8>(
        word4(row, i), word4(row, i + 1u), word4(row, i + 2u), word4(row, i + 3u),
        word4(row, i + 4u), word4(row, i + 5u), word4(row, i + 6u), word4(row, i + 7u));
}
