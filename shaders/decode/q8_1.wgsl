// Q8_1: blocks of 32 weights; planes qs (8 words a block, signed bytes), d (f16), s (f16, not
// needed here).
// w[i] = d * q[i]
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    a: vec4<u32>,
    b: vec4<u32>,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, 2u * chunk), vec4_at(p, 0u, 2u * chunk + 1u), word_at(p, 1u, chunk >> 1u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return byte_quad(r.a, r.b, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(f16_of(r.d, chunk), 0.0);
}
