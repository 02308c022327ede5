// Q4_0: blocks of 32 weights; planes qs (4 words a block), d (f16).
// w[i] = d * (q[i] - 8)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 8;

fn scale(row: u32, k: u32) -> f32 {
    return plane_f16(1u, row, k >> 5u);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    return nibbles(plane_vec4(0u, row, k >> 5u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return centered(quads(row, k), scale(row, k), 8.0);
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = scale(row, k);
    return codes(quads(row, k), d, -8.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(1u, row, k >> 8u), vec2<f32>(0.0));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let d = half_of(s, k);
    return codes(quads(row, k), d, -8.0 * d);
}
