// NVFP4: blocks of 64 weights; planes qs (4 words per 32 weights), d (unsigned E4M3, a byte per
// 16).
// w[i] = d[i / 16] / 2 * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

// The bits of E4M3 are those of an f16 except the exponent's bias; the eighth bit does not count,
// and 0x7f, the NaN, is 0.
fn half_e4m3(d: u32) -> f32 {
    return select(unpack2x16float((d & 0x7fu) << 7u).x * 128.0, 0.0, d == 0x7fu);
}

fn scales(row: u32, k: u32) -> vec2<f32> {
    let d = plane_word(1u, row, k >> 6u) >> (((k >> 5u) & 1u) * 16u);
    return vec2<f32>(half_e4m3(d & 255u), half_e4m3((d >> 8u) & 255u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
