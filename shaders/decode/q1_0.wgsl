// Q1_0: blocks of 128 weights; planes qs (1 word per 32 weights), d (f16).
// w[i] = q[i] == 1 ? d : -d
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    qs: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(word_at(p, 0u, chunk), word_at(p, 1u, chunk >> 3u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return (r.qs >> i) & 0x01010101u;
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

// w = 2 d * bit - d
fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = f16_of(r.d, chunk >> 2u);
    return vec2<f32>(2.0 * d, -d);
}

// Bit i of byte j of `minus` flips the sign of weight 4 i + j.
fn flipped(d: u32, minus: u32, i: u32) -> vec4<f32> {
    let signs = vec4<u32>(minus) << (vec4<u32>(31u, 23u, 15u, 7u) - vec4<u32>(i));
    return bitcast<vec4<f32>>(vec4<u32>(d) ^ (signs & vec4<u32>(0x80000000u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let r = raw32(place(row), k >> 5u);
    let d = bitcast<u32>(f16_of(r.d, k >> 7u));
    let minus = ~r.qs;
    return array<vec4<f32>, 8>(
        flipped(d, minus, 0u), flipped(d, minus, 1u), flipped(d, minus, 2u), flipped(d, minus, 3u),
        flipped(d, minus, 4u), flipped(d, minus, 5u), flipped(d, minus, 6u), flipped(d, minus, 7u));
}
