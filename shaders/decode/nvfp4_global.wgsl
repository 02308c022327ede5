// NVFP4_GLOBAL: groups of 16 weights; planes qs (4 words for 32 weights), d (E4M3, a byte a group).
// Behind the sixteen values the codebook has half the scale of each byte.
// w[i] = scale[d[i / 16]] / 2 * book[q[i]]
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

// E4M3 by integers: drivers may flush subnormal halves.
fn e4m3(d: u32) -> f32 {
    let a = d & 0x7fu;
    let normal = (a << 20u) + (120u << 23u);
    let small = bitcast<u32>(f32(i32(a)) * 0.001953125);
    return bitcast<f32>(select(normal, small, a < 8u) | ((d & 0x80u) << 24u));
}

// Where weights are handed out the scale is that of the table, to the bit. A product takes the byte
// times the scale of one (0x38), which may be a last bit off where the tensor's scale divides: two
// words fewer to load, a quarter of the time on software adapters.
fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = byte_of(r.d, 2u * chunk + half);
    if (ZERO_SIGN) {
        return vec2<f32>(bitcast<f32>(book[16u + d]), 0.0);
    }
    return vec2<f32>(e4m3(d) * bitcast<f32>(book[16u + 0x38u]), 0.0);
}
