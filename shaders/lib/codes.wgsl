// Integer codes. A "quad" is a word whose bytes are the codes of four consecutive weights.

fn quad(v: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u)));
}

fn quad_signed(v: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(v) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Quad `i` of 32 four-bit codes: low nibbles of a word first, then its high nibbles.
fn nibble_quad(v: vec4<u32>, i: u32) -> u32 {
    let word = component(v, i >> 1u);
    return select(word, word >> 4u, (i & 1u) == 1u) & 0x0f0f0f0fu;
}

// Quad `i` of 32 two-bit codes.
fn pair_quad(v: vec2<u32>, i: u32) -> u32 {
    return (select(v.x, v.y, i >= 4u) >> (2u * (i & 3u))) & 0x03030303u;
}

// Quad `i` of 32 bytes.
fn byte_quad(a: vec4<u32>, b: vec4<u32>, i: u32) -> u32 {
    return component(select(a, b, i >= 4u), i & 3u);
}

// `v` moved up by `to - at` bits, or down.
fn moved(v: u32, at: u32, to: u32) -> u32 {
    return select(v >> (at - to), v << (to - at), to >= at);
}

// The fifth bits of quad `i`: bit i of byte j of `qh` belongs to weight 4 i + j.
fn fifth_bits(qh: u32, i: u32) -> u32 {
    return moved(qh, i, 4u) & 0x10101010u;
}

// The third bits in the same way.
fn third_bits(qh: u32, i: u32) -> u32 {
    return moved(qh, i, 2u) & 0x04040404u;
}

// Bits five and six: bits 2 i, 2 i + 1 of byte j of a word of `qh` belong to weight 4 i + j of its
// 16.
fn two_bits(qh: vec2<u32>, i: u32) -> u32 {
    return moved(select(qh.x, qh.y, i >= 4u), 2u * (i & 3u), 4u) & 0x30303030u;
}

// Words 2 i and 2 i + 1 of sixteen.
fn two_words(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>, i: u32) -> vec2<u32> {
    let v = select(select(a, b, i >= 2u), select(c, d, i >= 6u), i >= 4u);
    return select(v.xy, v.zw, (i & 1u) == 1u);
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
