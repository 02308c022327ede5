// IQ1_S: super-blocks of 256 weights; planes qs (1 word per 32 weights: low bytes of four entries
// of the grid), qh (16 bits per 32: three high bits of each entry, the scale s, the sign of delta),
// d (f16).
// w[i] = d * (2 * s[i / 32] + 1) * (grid[q[i / 8]][i % 8] ± 0.125); every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = false;

// Everything else is in lib/grid_shifted.wgsl.
fn raw32(p: Place, chunk: u32) -> Raw {
    let qh = u16_of(word_at(p, 1u, chunk >> 1u), chunk);
    let d = f16_of(word_at(p, 2u, chunk >> 4u), chunk >> 3u) * f32(2u * ((qh >> 12u) & 7u) + 1u);
    let delta = select(-0.125, 0.125, (qh & 0x8000u) == 0u);
    let high = vec4<u32>(qh << 8u, qh << 5u, qh << 2u, qh >> 1u) & vec4<u32>(0x700u);
    let q = bytes(word_at(p, 0u, chunk)) | high;
    return Raw(book4_pairs(q), vec4<f32>(delta), vec2<f32>(d));
}
