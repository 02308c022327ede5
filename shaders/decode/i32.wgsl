// I32: plane w, one word a weight.
// w[i] = f32(w[i]), rounded to nearest even beyond 2^24
fn decode_init(lane: u32) {}

// Both halves convert exactly and their sum rounds once. What rounds a conversion of the whole is
// the device's affair.
fn integers(row: u32, i: u32) -> vec4<f32> {
    let v = plane_vec4(0u, row, i);
    let high = vec4<f32>(vec4<i32>(v) >> vec4<u32>(16u));
    let low = vec4<f32>(v & vec4<u32>(0xffffu));
    return fma(high, vec4<f32>(65536.0), low);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 2u;
    return array<vec4<f32>, 8>(
        integers(row, i), integers(row, i + 1u), integers(row, i + 2u), integers(row, i + 3u),
        integers(row, i + 4u), integers(row, i + 5u), integers(row, i + 6u), integers(row, i + 7u));
}
