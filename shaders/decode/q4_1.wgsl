// Q4_1: blocks of 32 weights; planes qs (4 words a block), dm (f16 pair: d, m).
// w[i] = d * q[i] + m
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let block = k >> 5u;
    let dm = unpack2x16float(plane_word(1u, row, block));
    let qs = plane_vec4(0u, row, block);
    return affine(nibbles(qs), dm.x, dm.y);
}
