// IQ2_XS: super-blocks of 256 weights; planes qs, signs (2 words per 32 weights: low bytes of four
// entries of the grid; 28 signs and the ninth bits of the entries on top), scales (a nibble s per
// 16), d (f16).
// w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[q[i / 8]][i % 8] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = true;

struct Raw {
    v: vec4<u32>,  // entries
    signs: u32,
    scales: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let signs = word_at(p, 0u, 2u * chunk + 1u);
    let high = (vec4<u32>(signs) >> vec4<u32>(20u, 21u, 22u, 23u)) & vec4<u32>(0x100u);
    let v = book4(bytes(word_at(p, 0u, 2u * chunk)) | high);
    return Raw(v, signs, word_at(p, 1u, chunk >> 2u), word_at(p, 2u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return negated(nibble_entries(r.v, i), signs_of(even_signs(r.signs), i));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return biased_values(negated_biased(nibble_entries(r.v, i), signs_of(even_signs(r.signs), i)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let s = (byte_of(r.scales, chunk) >> (4u * half)) & 15u;
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * (0.5 + f32(s)) * 0.25, 0.0);
}
