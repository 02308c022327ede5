// NVFP4_GLOBAL: groups of 16 weights; planes qs (4 words for 32 weights), d (a byte a group: a place in the table of scales, which
// lies behind the sixteen values in the book).
// w[i] = scale[d[i / 16]] / 2 * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn scales(row: u32, k: u32) -> vec2<f32> {
    let d = plane_word(1u, row, k >> 6u) >> (((k >> 5u) & 1u) * 16u);
    return bitcast<vec2<f32>>(vec2<u32>(book[16u + (d & 255u)], book[16u + ((d >> 8u) & 255u)]));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
