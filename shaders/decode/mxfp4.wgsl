// MXFP4: blocks of 32 weights; planes qs (4 words a block), e (a byte a block).
// w[i] = 2^(e - 128) * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let block = k >> 5u;
    let e = (plane_word(1u, row, k >> 7u) >> ((block & 3u) * 8u)) & 255u;
    let d = bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u));
    let qs = plane_vec4(0u, row, block);
    return lookup32(nibbles(qs), vec2<f32>(d));
}
