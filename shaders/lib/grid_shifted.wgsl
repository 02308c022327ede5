// For the formats whose values are -1, 0 and 1 by a codebook, each eight of them moved by a delta.

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
struct Raw {
    v: vec4<u32>,
    delta: vec4<f32>,
    d: vec2<f32>,
}

fn values_at(r: Raw, i: u32) -> vec4<i32> {
    let v = component(r.v, i >> 1u);
    return two_bit_values(select(v << 8u, v, (i & 1u) == 1u));
}

fn delta_at(r: Raw, i: u32) -> f32 {
    return select(select(r.delta.x, r.delta.y, i >= 2u), select(r.delta.z, r.delta.w, i >= 6u), i >= 4u);
}

// Every delta is an eighth, so eight times a value and its delta is an integer.
fn raw_quad(r: Raw, i: u32) -> u32 {
    return pack4xI8(values_at(r, i) * 8 + vec4<i32>(i32(8.0 * delta_at(r, i))));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return fma(vec4<f32>(values_at(r, i)), vec4<f32>(8.0), vec4<f32>(fma(8.0, delta_at(r, i), VALUE_BIAS)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(0.125 * select(r.d.x, r.d.y, half == 1u), 0.0);
}

// Four weights. Both ways are exact except for the sign of a zero.
fn shifted_quad(r: Raw, i: u32) -> vec4<f32> {
    let value = vec4<f32>(values_at(r, i));
    let d = select(r.d.x, r.d.y, i >= 4u);
    let delta = delta_at(r, i);
    if (ZERO_SIGN) {
        return d * (value + vec4<f32>(delta));
    }
    return fma(value, vec4<f32>(d), vec4<f32>(d * delta));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let r = raw32(place(row), k >> 5u);
    return array<vec4<f32>, 8>(
        shifted_quad(r, 0u), shifted_quad(r, 1u), shifted_quad(r, 2u), shifted_quad(r, 3u),
        shifted_quad(r, 4u), shifted_quad(r, 5u), shifted_quad(r, 6u), shifted_quad(r, 7u));
}
