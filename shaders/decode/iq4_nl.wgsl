// IQ4_NL: blocks of 32 weights; planes qs (4 words a block), d (f16).
// w[i] = d * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let block = k >> 5u;
    let d = plane_f16(1u, row, block);
    let q = nibbles(plane_vec4(0u, row, block));
    return array<vec4<f32>, 8>(
        d * lookup(q[0]), d * lookup(q[1]), d * lookup(q[2]), d * lookup(q[3]),
        d * lookup(q[4]), d * lookup(q[5]), d * lookup(q[6]), d * lookup(q[7]));
}
