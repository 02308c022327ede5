// IQ4_NL: blocks of 32 weights; planes qs (4 words a block), d (f16).
// w[i] = d * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn scales(row: u32, k: u32) -> vec2<f32> {
    return vec2<f32>(plane_f16(1u, row, k >> 5u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(1u, row, k >> 8u), vec2<f32>(0.0));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    return codes(nibbles(plane_vec4(0u, row, k >> 5u)), half_of(s, k), 0.0);
}
