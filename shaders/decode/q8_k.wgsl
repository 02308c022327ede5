// Q8_K: blocks of 256 weights; planes qs (8 words per 32 weights, signed bytes), d (f32), bsums
// (not needed here).
// w[i] = d * q[i]
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn scale(row: u32, k: u32) -> f32 {
    return bitcast<f32>(plane_word(1u, row, k >> 8u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return scaled_codes(codes32(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return codes(byte_quads(plane_vec4(0u, row, k >> 4u), plane_vec4(0u, row, (k >> 4u) + 1u)), scale(row, k), 0.0);
}
