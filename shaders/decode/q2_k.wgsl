// Q2_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), sc (a byte per 16: scale
// low, minimum high), dm (f16 pair).
// w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;
const TWO_SCALES = true;

struct Raw {
    qs: vec2<u32>,
    sc: u32,
    dm: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec2<u32>(word_at(p, 0u, 2u * chunk), word_at(p, 0u, 2u * chunk + 1u)), word_at(p, 1u, chunk >> 1u), word_at(p, 2u, chunk >> 3u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return pair_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

// Scale and offset of 16 weights, whose byte is `sc`.
fn scale_and_offset(sc: u32, dm: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(dm.x * f32(i32(sc & 15u)), -(dm.y * f32(i32(sc >> 4u))));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return scale_and_offset(byte_of(r.sc, 2u * chunk + half), unpack2x16float(r.dm));
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(1u, row, k >> 8u), unpack2x16float(plane_word(2u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let sc = pair_of(s, k);
    let a = scale_and_offset(sc & 255u, s.d);
    let b = scale_and_offset(sc >> 8u, s.d);
    return Codes(quads(row, k), vec2<f32>(a.x, b.x), vec2<f32>(a.y, b.y));
}
