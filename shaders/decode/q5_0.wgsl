// Q5_0: blocks of 32 weights; planes qs (4 words a block), qh (1 word), d (f16).
// w[i] = d * (q[i] - 16)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 16;
const TWO_SCALES = false;

struct Raw {
    qs: vec4<u32>,
    qh: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, chunk), word_at(p, 2u, chunk >> 1u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i) | fifth_bits(r.qh, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = f16_of(r.d, chunk);
    return vec2<f32>(d, -16.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(0.0));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let d = half_of(s, k);
    return codes(quads(row, k), d, -16.0 * d);
}
