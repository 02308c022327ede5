// MXFP4: blocks of 32 weights; planes qs (4 words a block), e (a byte a block).
// w[i] = 2^(e - 128) * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn scales(row: u32, k: u32) -> vec2<f32> {
    let e = (plane_word(1u, row, k >> 7u) >> (((k >> 5u) & 3u) * 8u)) & 255u;
    return vec2<f32>(bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
