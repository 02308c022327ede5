// For formats whose codes are entries of a codebook in `book`. Twin: src/format/ggml/grid.rs.

fn bytes(v: u32) -> vec4<u32> {
    return (vec4<u32>(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
}

fn book4(entry: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(book[entry.x], book[entry.y], book[entry.z], book[entry.w]);
}

// Nibbles with two bits of each hexadecimal digit of a value, less eight: 8, 25 and 43 are 0x08,
// 0x19 and 0x2b.
fn nibble_values(v: vec4<u32>) -> vec4<u32> {
    return (v & vec4<u32>(0x03030303u)) | ((v & vec4<u32>(0x0c0c0c0cu)) << vec4<u32>(2u)) | vec4<u32>(0x08080808u);
}

// The eight quads of four entries with a nibble a value.
fn nibble_entries(v: vec4<u32>) -> array<u32, 8> {
    let lo = nibble_values(v);
    let hi = nibble_values(v >> vec4<u32>(4u));
    return array<u32, 8>(lo.x, hi.x, lo.y, hi.y, lo.z, hi.z, lo.w, hi.w);
}

// The 32 signs of a chunk whose top four are not stored: each makes the negative ones of its eight
// weights even.
fn even_signs(word: u32) -> u32 {
    let bits = word & 0x0fffffffu;
    let words = bits ^ (bits >> 16u);
    let columns = words ^ (words >> 8u);
    return bits | ((columns ^ (columns >> 4u)) << 28u);
}

// A quad of values 1 .. 127, negative where the lowest bit of the byte of `signs` is set: four at a
// time, as no byte carries.
fn negated(q: u32, signs: u32) -> u32 {
    let ones = signs & 0x01010101u;
    return (q ^ ((ones << 8u) - ones)) + ones;
}

// Eight quads with the signs of a chunk: bit l of a byte for quad 2 l, bit 4 + l for quad 2 l + 1.
// The first sixteen weights times d0, the others times d1.
fn signed_codes(q: array<u32, 8>, signs: u32, d0: f32, d1: f32) -> Codes {
    let s = array<u32, 8>(
        negated(q[0], signs), negated(q[1], signs >> 4u), negated(q[2], signs >> 1u), negated(q[3], signs >> 5u),
        negated(q[4], signs >> 2u), negated(q[5], signs >> 6u), negated(q[6], signs >> 3u), negated(q[7], signs >> 7u));
    return Codes(s, vec2<f32>(d0, d1), vec2<f32>(0.0));
}

// Four entries with two bits a value, two entries a word, even entries in the upper half: here all
// in the upper half.
fn book4_pairs(entry: vec4<u32>) -> vec4<u32> {
    return book4(entry >> vec4<u32>(1u)) << ((entry & vec4<u32>(1u)) << vec4<u32>(4u));
}

// The four values whose last lies in the top two bits of `v`.
fn two_bit_values(v: u32) -> vec4<i32> {
    return vec4<i32>(vec4<u32>(v) << vec4<u32>(6u, 4u, 2u, 0u)) >> vec4<u32>(30u);
}

// Four entries of `book4_pairs`, each with its delta, and a scale for each 16 weights: w = d *
// (value + delta).
struct Shifted {
    v: vec4<u32>,
    delta: vec4<f32>,
    d: vec2<f32>,
}

// Both ways are exact except for the sign of a zero.
fn shifted_quad(v: u32, d: f32, delta: f32) -> vec4<f32> {
    let value = vec4<f32>(two_bit_values(v));
    if (ZERO_SIGN) {
        return d * (value + vec4<f32>(delta));
    }
    return fma(value, vec4<f32>(d), vec4<f32>(d * delta));
}

fn shifted_entries(s: Shifted) -> array<vec4<f32>, 8> {
    let v = s.v;
    return array<vec4<f32>, 8>(
        shifted_quad(v.x << 8u, s.d.x, s.delta.x), shifted_quad(v.x, s.d.x, s.delta.x),
        shifted_quad(v.y << 8u, s.d.x, s.delta.y), shifted_quad(v.y, s.d.x, s.delta.y),
        shifted_quad(v.z << 8u, s.d.y, s.delta.z), shifted_quad(v.z, s.d.y, s.delta.z),
        shifted_quad(v.w << 8u, s.d.y, s.delta.w), shifted_quad(v.w, s.d.y, s.delta.w));
}

// Every delta is an eighth, so eight times a value and its delta is an integer.
fn shifted_code(v: u32, delta: f32) -> u32 {
    return pack4xI8(two_bit_values(v) * 8 + vec4<i32>(i32(8.0 * delta)));
}

fn shifted_codes(s: Shifted) -> Codes {
    let v = s.v;
    let q = array<u32, 8>(
        shifted_code(v.x << 8u, s.delta.x), shifted_code(v.x, s.delta.x),
        shifted_code(v.y << 8u, s.delta.y), shifted_code(v.y, s.delta.y),
        shifted_code(v.z << 8u, s.delta.z), shifted_code(v.z, s.delta.z),
        shifted_code(v.w << 8u, s.delta.w), shifted_code(v.w, s.delta.w));
    return Codes(q, 0.125 * s.d, vec2<f32>(0.0));
}
