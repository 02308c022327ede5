// Q3_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), qh (1 word per 32), sc (a
// byte per 16), d (f16).
// w[i] = d * (sc[i / 16] - 32) * (q[i] - 4)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 4;

fn scales(sc: u32, d: f32) -> vec2<f32> {
    return d * (vec2<f32>(vec2<i32>(i32(sc & 255u), i32((sc >> 8u) & 255u))) - 32.0);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    let qs = vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u));
    return with_third_bit(pairs(qs), plane_word(1u, row, chunk));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return centered2(quads(row, k), scales(plane_u16(2u, row, k >> 5u), plane_f16(3u, row, k >> 8u)), 4.0);
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = scales(plane_u16(2u, row, k >> 5u), plane_f16(3u, row, k >> 8u));
    return Codes(quads(row, k), d, -4.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(plane_f16(3u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let d = scales(pair_of(s, k), s.d.x);
    return Codes(quads(row, k), d, -4.0 * d);
}
