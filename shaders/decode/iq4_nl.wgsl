// IQ4_NL: blocks of 32 weights; planes qs (4 words a block), d (f16).
// w[i] = d * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let block = k >> 5u;
    let d = plane_f16(1u, row, block);
    let qs = plane_vec4(0u, row, block);
    return lookup32(nibbles(qs), vec2<f32>(d));
}
