// MXFP4: blocks of 32 weights; planes qs (4 words a block), e (a byte a block).
// w[i] = 2^(e - 128) * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

const TWO_SCALES = false;

struct Raw {
    qs: vec4<u32>,
    e: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, chunk >> 2u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return nibble_values(r.qs, i);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let e = byte_of(r.e, chunk);
    return vec2<f32>(bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u)), 0.0);
}
