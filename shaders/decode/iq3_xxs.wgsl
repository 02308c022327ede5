// IQ3_XXS: super-blocks of 256 weights; planes qs (2 words per 32 weights: eight entries of the
// grid), signs (1 word per
// 32: 28 signs and the scale s on top), d (f16).
// w[i] = d * (0.5 + s[i / 32]) * 0.5 * grid[qs[i / 4]][i % 4] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn codes32(row: u32, k: u32) -> Codes {
    let chunk = k >> 5u;
    let signs = plane_word(1u, row, chunk);
    let d = plane_f16(2u, row, k >> 8u) * (0.5 + f32(signs >> 28u)) * 0.5;
    let q0 = book4(bytes(plane_word(0u, row, 2u * chunk)));
    let q1 = book4(bytes(plane_word(0u, row, 2u * chunk + 1u)));
    let q = array<u32, 8>(q0.x, q0.y, q0.z, q0.w, q1.x, q1.y, q1.z, q1.w);
    return signed_codes(q, even_signs(signs), d, d);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return scaled_codes(codes32(row, k));
}
