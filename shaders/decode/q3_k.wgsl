// Q3_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), qh (1 word per 32), sc (a
// byte per 16), d (f16).
// w[i] = d * (sc[i / 16] - 32) * (q[i] - 4)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 4;
const TWO_SCALES = true;

struct Raw {
    qs: vec2<u32>,
    qh: u32,
    sc: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(
        vec2<u32>(word_at(p, 0u, 2u * chunk), word_at(p, 0u, 2u * chunk + 1u)), word_at(p, 1u, chunk),
        word_at(p, 2u, chunk >> 1u), word_at(p, 3u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return pair_quad(r.qs, i) | third_bits(r.qh, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

// The scale of 16 weights, whose byte is `sc`.
fn scale(sc: u32, d: f32) -> f32 {
    return d * (f32(i32(sc)) - 32.0);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = scale(byte_of(r.sc, 2u * chunk + half), f16_of(r.d, chunk >> 3u));
    return vec2<f32>(d, -4.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(plane_f16(3u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let sc = pair_of(s, k);
    let d = vec2<f32>(scale(sc & 255u, s.d.x), scale(sc >> 8u, s.d.x));
    return Codes(quads(row, k), d, -4.0 * d);
}
