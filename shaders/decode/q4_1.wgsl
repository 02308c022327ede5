// Q4_1: blocks of 32 weights; planes qs (4 words a block), dm (f16 pair: d, m).
// w[i] = d * q[i] + m
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    qs: vec4<u32>,
    dm: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, chunk));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return nibble_values(r.qs, i);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return unpack2x16float(r.dm);
}
