// IQ4_XS: super-blocks of 256 weights; planes qs (4 words per 32 weights), sc (a byte per 32), d
// (f16).
// w[i] = d * (sc[i / 32] - 32) * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

const TWO_SCALES = false;

struct Raw {
    qs: vec4<u32>,
    sc: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, chunk >> 2u), word_at(p, 2u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return nibble_values(r.qs, i);
}

// (d * sc) is exact; its product with the value rounds once, as in the reference.
fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * (f32(i32(byte_of(r.sc, chunk))) - 32.0), 0.0);
}
