// Q5_0: blocks of 32 weights; planes qs (4 words a block), qh (1 word), d (f16).
// w[i] = d * (q[i] - 16)
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let block = k >> 5u;
    let d = plane_f16(2u, row, block);
    let qh = plane_word(1u, row, block);
    let qs = plane_vec4(0u, row, block);
    return centered(with_fifth_bit(nibbles(qs), qh), d, 16.0);
}
