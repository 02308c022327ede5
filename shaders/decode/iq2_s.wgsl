// IQ2_S: super-blocks of 256 weights; planes qs, signs (2 words per 32 weights: low bytes of four
// entries of the grid; 32 signs), qh, scales (16 bits per 32: two high bits of each entry, two
// nibbles s), d (f16).
// w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[q[i / 8]][i % 8] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = true;

struct Raw {
    v: vec4<u32>,  // entries
    signs: u32,
    qh: u32,  // of two chunks
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let qh = word_at(p, 1u, chunk >> 1u);
    let high = (vec4<u32>(u16_of(qh, chunk)) << vec4<u32>(8u, 6u, 4u, 2u)) & vec4<u32>(0x300u);
    let v = book4(bytes(word_at(p, 0u, 2u * chunk)) | high);
    return Raw(v, word_at(p, 0u, 2u * chunk + 1u), qh, word_at(p, 2u, chunk >> 4u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return negated(nibble_entries(r.v, i), signs_of(r.signs, i));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return biased_values(negated_biased(nibble_entries(r.v, i), signs_of(r.signs, i)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let s = (u16_of(r.qh, chunk) >> (8u + 4u * half)) & 15u;
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * (0.5 + f32(s)) * 0.25, 0.0);
}
