// IQ2_XXS: super-blocks of 256 weights; planes qs, signs (2 words per 32 weights: four entries of
// the grid; 28 signs and the scale s on top), d (f16).
// w[i] = d * (0.5 + s[i / 32]) * 0.25 * grid[qs[i / 8]][i % 8] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn codes32(row: u32, k: u32) -> Codes {
    let chunk = k >> 5u;
    let qs = plane_word(0u, row, 2u * chunk);
    let signs = plane_word(0u, row, 2u * chunk + 1u);
    let d = plane_f16(1u, row, k >> 8u) * (0.5 + f32(signs >> 28u)) * 0.25;
    return signed_codes(nibble_entries(book4(bytes(qs))), even_signs(signs), d, d);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return scaled_codes(codes32(row, k));
}
