// Q6_K: super-blocks of 256 weights; planes qs (4 words per 32 weights), qh (2 words per 32), sc
// (signed bytes, one per 16), d (f16).
// w[i] = d * sc[i / 16] * (q[i] - 32)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 32;
const TWO_SCALES = true;

struct Raw {
    qs: vec4<u32>,
    qh: vec2<u32>,
    sc: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(
        vec4_at(p, 0u, chunk), vec2<u32>(word_at(p, 1u, 2u * chunk), word_at(p, 1u, 2u * chunk + 1u)),
        word_at(p, 2u, chunk >> 1u), word_at(p, 3u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i) | two_bits(r.qh, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

// (d * sc) is exact; its product with the code rounds once, as in the reference. `sc` in the upper
// byte.
fn scale(sc: u32, d: f32) -> f32 {
    return d * f32(i32(sc) >> 24u);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = scale(r.sc << (24u - 16u * (chunk & 1u) - 8u * half), f16_of(r.d, chunk >> 3u));
    return vec2<f32>(d, -32.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(plane_f16(3u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let sc = pair_of(s, k);
    let d = vec2<f32>(scale(sc << 24u, s.d.x), scale(sc << 16u, s.d.x));
    return Codes(quads(row, k), d, -32.0 * d);
}
