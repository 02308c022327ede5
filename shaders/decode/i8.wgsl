// I8: plane w, four signed bytes a word.
// w[i] = f32(w[i])
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 4u;
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    return array<vec4<f32>, 8>(
        quad_signed(a.x), quad_signed(a.y), quad_signed(a.z), quad_signed(a.w),
        quad_signed(b.x), quad_signed(b.y), quad_signed(b.z), quad_signed(b.w));
}

fn codes32(row: u32, k: u32) -> Codes {
    return codes(byte_quads(plane_vec4(0u, row, k >> 4u), plane_vec4(0u, row, (k >> 4u) + 1u)), 1.0, 0.0);
}
