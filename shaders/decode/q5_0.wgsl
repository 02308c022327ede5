// Q5_0: blocks of 32 weights; planes qs (4 words a block), qh (1 word), d (f16).
// w[i] = d * (q[i] - 16)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 16;

fn scale(row: u32, k: u32) -> f32 {
    return plane_f16(2u, row, k >> 5u);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let block = k >> 5u;
    return with_fifth_bit(nibbles(plane_vec4(0u, row, block)), plane_word(1u, row, block));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return centered(quads(row, k), scale(row, k), 16.0);
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = scale(row, k);
    return codes(quads(row, k), d, -16.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(0.0));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let d = half_of(s, k);
    return codes(quads(row, k), d, -16.0 * d);
}
