// IQ2_XS: super-blocks of 256 weights; planes qs, signs (2 words per 32 weights: low bytes of four
// entries of the grid; 28 signs and the ninth bits of the entries on top), scales (a nibble s per
// 16), d (f16).
// w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[q[i / 8]][i % 8] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn codes32(row: u32, k: u32) -> Codes {
    let chunk = k >> 5u;
    let scales = plane_word(1u, row, k >> 7u) >> (8u * (chunk & 3u));
    let d = plane_f16(2u, row, k >> 8u) * (vec2<f32>(0.5) + vec2<f32>(f32(scales & 15u), f32((scales >> 4u) & 15u))) * 0.25;
    let qs = plane_word(0u, row, 2u * chunk);
    let signs = plane_word(0u, row, 2u * chunk + 1u);
    let q = bytes(qs) | ((vec4<u32>(signs) >> vec4<u32>(20u, 21u, 22u, 23u)) & vec4<u32>(0x100u));
    return signed_codes(nibble_entries(book4(q)), even_signs(signs), d.x, d.y);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return scaled_codes(codes32(row, k));
}
