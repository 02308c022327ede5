// IQ3_XXS: super-blocks of 256 weights; planes qs (2 words per 32 weights: eight entries of the
// grid), signs (1 word per
// 32: 28 signs and the scale s on top), d (f16).
// w[i] = d * (0.5 + s[i / 32]) * 0.5 * grid[qs[i / 4]][i % 4] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    a: vec4<u32>,  // entries
    b: vec4<u32>,
    signs: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let a = book4(bytes(word_at(p, 0u, 2u * chunk)));
    let b = book4(bytes(word_at(p, 0u, 2u * chunk + 1u)));
    return Raw(a, b, word_at(p, 1u, chunk), word_at(p, 2u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return negated(byte_quad(r.a, r.b, i), signs_of(even_signs(r.signs), i));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return biased_values(negated_biased(byte_quad(r.a, r.b, i), signs_of(even_signs(r.signs), i)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * (0.5 + f32(r.signs >> 28u)) * 0.5, 0.0);
}
