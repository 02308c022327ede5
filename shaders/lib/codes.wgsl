// Integer codes to f32. A "quad" is a word whose bytes are the codes of four consecutive weights.

fn quad(v: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u)));
}

fn quad_signed(v: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(v) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// The eight quads of 32 four-bit codes: low nibbles of a word first, then its high nibbles.
fn nibbles(v: vec4<u32>) -> array<u32, 8> {
    let lo = v & vec4<u32>(0x0f0f0f0fu);
    let hi = (v >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    return array<u32, 8>(lo.x, hi.x, lo.y, hi.y, lo.z, hi.z, lo.w, hi.w);
}

// d * q + m for eight quads.
fn affine(q: array<u32, 8>, d: f32, m: f32) -> array<vec4<f32>, 8> {
    let dd = vec4<f32>(d);
    let mm = vec4<f32>(m);
    return array<vec4<f32>, 8>(
        fma(quad(q[0]), dd, mm), fma(quad(q[1]), dd, mm), fma(quad(q[2]), dd, mm), fma(quad(q[3]), dd, mm),
        fma(quad(q[4]), dd, mm), fma(quad(q[5]), dd, mm), fma(quad(q[6]), dd, mm), fma(quad(q[7]), dd, mm));
}
// The fifth bits: bit i of byte j of `qh` belongs to weight 4 i + j.
fn with_fifth_bit(q: array<u32, 8>, qh: u32) -> array<u32, 8> {
    return array<u32, 8>(
        q[0] | ((qh << 4u) & 0x10101010u), q[1] | ((qh << 3u) & 0x10101010u),
        q[2] | ((qh << 2u) & 0x10101010u), q[3] | ((qh << 1u) & 0x10101010u),
        q[4] | (qh & 0x10101010u), q[5] | ((qh >> 1u) & 0x10101010u),
        q[6] | ((qh >> 2u) & 0x10101010u), q[7] | ((qh >> 3u) & 0x10101010u));
}

// Bits five and six: bits 2 i, 2 i + 1 of byte j of a word of `qh` belong to weight 4 i + j of its
// 16.
fn with_two_bits(q: array<u32, 8>, qh: vec2<u32>) -> array<u32, 8> {
    return array<u32, 8>(
        q[0] | ((qh.x << 4u) & 0x30303030u), q[1] | ((qh.x << 2u) & 0x30303030u),
        q[2] | (qh.x & 0x30303030u), q[3] | ((qh.x >> 2u) & 0x30303030u),
        q[4] | ((qh.y << 4u) & 0x30303030u), q[5] | ((qh.y << 2u) & 0x30303030u),
        q[6] | (qh.y & 0x30303030u), q[7] | ((qh.y >> 2u) & 0x30303030u));
}

// d * (q - center) for eight quads. Both ways are exact except for the sign of a zero: with d < 0
// and q = center the product is -0 as in the reference, the fma is +0. Only what hands out weights
// (ZERO_SIGN) pays one operation more for it.
fn centered(q: array<u32, 8>, d: f32, center: f32) -> array<vec4<f32>, 8> {
    if (ZERO_SIGN) {
        let c = vec4<f32>(center);
        return array<vec4<f32>, 8>(
            (quad(q[0]) - c) * d, (quad(q[1]) - c) * d, (quad(q[2]) - c) * d, (quad(q[3]) - c) * d,
            (quad(q[4]) - c) * d, (quad(q[5]) - c) * d, (quad(q[6]) - c) * d, (quad(q[7]) - c) * d);
    }
    return affine(q, d, -center * d);
}

// The eight quads of 32 two-bit codes.
fn pairs(v: vec2<u32>) -> array<u32, 8> {
    return array<u32, 8>(
        v.x & 0x03030303u, (v.x >> 2u) & 0x03030303u, (v.x >> 4u) & 0x03030303u, (v.x >> 6u) & 0x03030303u,
        v.y & 0x03030303u, (v.y >> 2u) & 0x03030303u, (v.y >> 4u) & 0x03030303u, (v.y >> 6u) & 0x03030303u);
}

// Third bits: bit i of byte j of `qh` belongs to weight 4 i + j.
fn with_third_bit(q: array<u32, 8>, qh: u32) -> array<u32, 8> {
    return array<u32, 8>(
        q[0] | ((qh << 2u) & 0x04040404u), q[1] | ((qh << 1u) & 0x04040404u),
        q[2] | (qh & 0x04040404u), q[3] | ((qh >> 1u) & 0x04040404u),
        q[4] | ((qh >> 2u) & 0x04040404u), q[5] | ((qh >> 3u) & 0x04040404u),
        q[6] | ((qh >> 4u) & 0x04040404u), q[7] | ((qh >> 5u) & 0x04040404u));
}

// affine with a scale and an offset for each 16 weights.
fn affine2(q: array<u32, 8>, d: vec2<f32>, m: vec2<f32>) -> array<vec4<f32>, 8> {
    let d0 = vec4<f32>(d.x);
    let d1 = vec4<f32>(d.y);
    let m0 = vec4<f32>(m.x);
    let m1 = vec4<f32>(m.y);
    return array<vec4<f32>, 8>(
        fma(quad(q[0]), d0, m0), fma(quad(q[1]), d0, m0), fma(quad(q[2]), d0, m0), fma(quad(q[3]), d0, m0),
        fma(quad(q[4]), d1, m1), fma(quad(q[5]), d1, m1), fma(quad(q[6]), d1, m1), fma(quad(q[7]), d1, m1));
}

// centered with a scale for each 16 weights.
fn centered2(q: array<u32, 8>, d: vec2<f32>, center: f32) -> array<vec4<f32>, 8> {
    if (ZERO_SIGN) {
        let c = vec4<f32>(center);
        return array<vec4<f32>, 8>(
            (quad(q[0]) - c) * d.x, (quad(q[1]) - c) * d.x, (quad(q[2]) - c) * d.x, (quad(q[3]) - c) * d.x,
            (quad(q[4]) - c) * d.y, (quad(q[5]) - c) * d.y, (quad(q[6]) - c) * d.y, (quad(q[7]) - c) * d.y);
    }
    return affine2(q, d, -center * d);
}

// 32 weights as integer codes: w = d * q + m, with a scale and an offset for each 16.
struct Codes {
    q: array<u32, 8>,  // quads; see lib/quads.wgsl and lib/lookup.wgsl
    d: vec2<f32>,
    m: vec2<f32>,
}

fn codes(q: array<u32, 8>, d: f32, m: f32) -> Codes {
    return Codes(q, vec2<f32>(d), vec2<f32>(m));
}

// The eight quads of 32 bytes.
fn byte_quads(a: vec4<u32>, b: vec4<u32>) -> array<u32, 8> {
    return array<u32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}

// d * q for codes without an offset.
fn scaled_codes(c: Codes) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        c.d.x * quad_signed(c.q[0]), c.d.x * quad_signed(c.q[1]), c.d.x * quad_signed(c.q[2]), c.d.x * quad_signed(c.q[3]),
        c.d.y * quad_signed(c.q[4]), c.d.y * quad_signed(c.q[5]), c.d.y * quad_signed(c.q[6]), c.d.y * quad_signed(c.q[7]));
}

// What chunks of 256 weights of a row have in common: two bytes for each of the eight, and what
// belongs to all of them.
struct Shared {
    pairs: vec4<u32>,
    d: vec2<f32>,
}

// The two bytes of a chunk.
fn pair_of(s: Shared, k: u32) -> u32 {
    return (component(s.pairs, (k >> 6u) & 3u) >> (((k >> 5u) & 1u) * 16u)) & 0xffffu;
}

// The same as f16.
fn half_of(s: Shared, k: u32) -> f32 {
    return unpack2x16float(pair_of(s, k)).x;
}
