// Q2_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), sc (a byte per 16: scale low, minimum high), dm (f16 pair).
// w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let chunk = k >> 5u;
    let dm = unpack2x16float(plane_word(2u, row, k >> 8u));
    let sc = plane_word(1u, row, k >> 6u) >> ((chunk & 1u) * 16u);
    let d = dm.x * vec2<f32>(vec2<i32>(i32(sc & 15u), i32((sc >> 8u) & 15u)));
    let m = dm.y * vec2<f32>(vec2<i32>(i32((sc >> 4u) & 15u), i32((sc >> 12u) & 15u)));
    let qs = vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u));
    return affine2(pairs(qs), d, -m);
}
