// Q5_K: super-blocks of 256 weights; planes qs (4 words per 32 weights), qh (1 word per 32), sc (bytes sc, m per 32), dm (f16 pair).
// w[i] = d * sc[i / 32] * q[i] - dmin * m[i / 32]
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let chunk = k >> 5u;
    let dm = unpack2x16float(plane_word(3u, row, k >> 8u));
    let sc = plane_word(2u, row, k >> 6u) >> ((chunk & 1u) * 16u);
    let d = dm.x * f32(i32(sc & 255u));
    let m = dm.y * f32(i32((sc >> 8u) & 255u));
    let qh = plane_word(1u, row, chunk);
    let qs = plane_vec4(0u, row, chunk);
    return affine(with_fifth_bit(nibbles(qs), qh), d, -m);
}
