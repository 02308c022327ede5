// TQ2_0: blocks of 256 weights; planes qs (2 words per 32 weights), d (f16).
// w[i] = (q[i] - 1) * d
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 1;
const TWO_SCALES = false;

struct Raw {
    qs: vec2<u32>,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec2<u32>(word_at(p, 0u, 2u * chunk), word_at(p, 0u, 2u * chunk + 1u)), word_at(p, 1u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return pair_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = f16_of(r.d, chunk >> 3u);
    return vec2<f32>(d, -d);
}
