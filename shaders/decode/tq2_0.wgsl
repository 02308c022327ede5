// TQ2_0: blocks of 256 weights; planes qs (2 words per 32 weights), d (f16).
// w[i] = (q[i] - 1) * d
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let chunk = k >> 5u;
    let d = plane_f16(1u, row, k >> 8u);
    let qs = vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u));
    return centered(pairs(qs), d, 1.0);
}
