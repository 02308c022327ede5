// NVFP4: blocks of 64 weights; planes qs (4 words per 32 weights), d (unsigned E4M3, a byte per
// 16).
// w[i] = d[i / 16] / 2 * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

const TWO_SCALES = true;

struct Raw {
    qs: vec4<u32>,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, chunk >> 1u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return nibble_values(r.qs, i);
}

// The bits of E4M3 are those of an f16 except the exponent's bias; the eighth bit does not count,
// and 0x7f, the NaN, is 0.
fn half_e4m3(d: u32) -> f32 {
    return select(unpack2x16float((d & 0x7fu) << 7u).x * 128.0, 0.0, (d & 0xffu) == 0x7fu);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(half_e4m3(byte_of(r.d, 2u * chunk + half)), 0.0);
}
