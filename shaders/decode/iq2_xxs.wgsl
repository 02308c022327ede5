// IQ2_XXS: super-blocks of 256 weights; planes qs, signs (2 words per 32 weights: four entries of
// the grid; 28 signs and the scale s on top), d (f16).
// w[i] = d * (0.5 + s[i / 32]) * 0.25 * grid[qs[i / 8]][i % 8] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    v: vec4<u32>,  // entries
    signs: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let v = book4(bytes(word_at(p, 0u, 2u * chunk)));
    return Raw(v, word_at(p, 0u, 2u * chunk + 1u), word_at(p, 1u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return negated(nibble_entries(r.v, i), signs_of(even_signs(r.signs), i));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return biased_values(negated_biased(nibble_entries(r.v, i), signs_of(even_signs(r.signs), i)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * (0.5 + f32(r.signs >> 28u)) * 0.25, 0.0);
}
