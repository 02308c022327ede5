// IQ1_S: super-blocks of 256 weights; planes qs (1 word per 32 weights: low bytes of four entries
// of the grid), qh (16 bits per 32: three high bits of each entry, the scale s, the sign of delta),
// d (f16).
// w[i] = d * (2 * s[i / 32] + 1) * (grid[q[i / 8]][i % 8] ± 0.125); every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn entries(row: u32, k: u32) -> Shifted {
    let chunk = k >> 5u;
    let qh = plane_u16(1u, row, chunk);
    let d = plane_f16(2u, row, k >> 8u) * f32(2u * ((qh >> 12u) & 7u) + 1u);
    let delta = select(-0.125, 0.125, (qh & 0x8000u) == 0u);
    let high = vec4<u32>(qh << 8u, qh << 5u, qh << 2u, qh >> 1u) & vec4<u32>(0x700u);
    let q = bytes(plane_word(0u, row, chunk)) | high;
    return Shifted(book4_pairs(q), vec4<f32>(delta), vec2<f32>(d));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return shifted_entries(entries(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return shifted_codes(entries(row, k));
}
