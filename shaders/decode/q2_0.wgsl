// Q2_0: blocks of 64 weights; planes qs (2 words per 32 weights), d (f16).
// w[i] = (q[i] - 1) * d
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 1;

fn scale(row: u32, k: u32) -> f32 {
    return plane_f16(1u, row, k >> 6u);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    return pairs(vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return centered(quads(row, k), scale(row, k), 1.0);
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = scale(row, k);
    return codes(quads(row, k), d, -1.0 * d);
}
