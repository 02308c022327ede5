// Q5_K: super-blocks of 256 weights; planes qs (4 words per 32 weights), qh (1 word per 32), sc
// (bytes sc, m per 32), dm (f16 pair).
// w[i] = d * sc[i / 32] * q[i] - dmin * m[i / 32]
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    qs: vec4<u32>,
    qh: u32,
    sc: u32,
    dm: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(
        vec4_at(p, 0u, chunk), word_at(p, 1u, chunk), word_at(p, 2u, chunk >> 1u), word_at(p, 3u, chunk >> 3u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i) | fifth_bits(r.qh, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

// Scale and offset of 32 weights, whose two bytes are `sc`.
fn scale_and_offset(sc: u32, dm: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(dm.x * f32(i32(sc & 255u)), -(dm.y * f32(i32(sc >> 8u))));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return scale_and_offset(u16_of(r.sc, chunk), unpack2x16float(r.dm));
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), unpack2x16float(plane_word(3u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let dm = scale_and_offset(pair_of(s, k), s.d);
    return codes(quads(row, k), dm.x, dm.y);
}
