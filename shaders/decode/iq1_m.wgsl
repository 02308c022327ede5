// IQ1_M: super-blocks of 256 weights; planes qs (1 word per 32 weights: low bytes of four entries
// of the grid), qh (a nibble for each: three high bits, the sign of delta), scales, d (2 words per
// 256: eight times three bits s for 16 weights each, and a byte of d (f16)).
// w[i] = d * (2 * s[i / 16] + 1) * (grid[q[i / 8]][i % 8] ± 0.125); every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = true;

// Everything else is in lib/grid_shifted.wgsl.
fn raw32(p: Place, chunk: u32) -> Raw {
    let first = word_at(p, 2u, 2u * (chunk >> 3u));
    let second = word_at(p, 2u, 2u * (chunk >> 3u) + 1u);
    let scales = select(first, second, (chunk & 4u) != 0u) >> (6u * (chunk & 3u));
    let qh = u16_of(word_at(p, 1u, chunk >> 1u), chunk);
    let s = vec2<f32>(f32(2u * (scales & 7u) + 1u), f32(2u * ((scales >> 3u) & 7u) + 1u));
    let d = unpack2x16float((first >> 24u) | ((second >> 16u) & 0xff00u)).x * s;
    let h = vec4<u32>(qh) >> vec4<u32>(0u, 4u, 8u, 12u);
    let q = bytes(word_at(p, 0u, chunk)) | ((h & vec4<u32>(7u)) << vec4<u32>(8u));
    let delta = select(vec4<f32>(-0.125), vec4<f32>(0.125), (h & vec4<u32>(8u)) == vec4<u32>(0u));
    return Raw(book4_pairs(q), delta, d);
}
