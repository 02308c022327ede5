// Q8_1: blocks of 32 weights; planes qs (8 words a block, signed bytes), d (f16), s (f16, not needed here).
// w[i] = d * q[i]
fn decode_init(lane: u32) {}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let chunk = k >> 5u;
    let d = plane_f16(1u, row, chunk);
    let a = plane_vec4(0u, row, 2u * chunk);
    let b = plane_vec4(0u, row, 2u * chunk + 1u);
    return array<vec4<f32>, 8>(
        d * quad_signed(a.x), d * quad_signed(a.y), d * quad_signed(a.z), d * quad_signed(a.w),
        d * quad_signed(b.x), d * quad_signed(b.y), d * quad_signed(b.z), d * quad_signed(b.w));
}
