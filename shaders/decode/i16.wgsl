// I16: plane w, two signed integers a word, low half first.
// w[i] = f32(w[i])
fn decode_init(lane: u32) {}

fn integers(v: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(v.x << 16u, v.x, v.y << 16u, v.y)) >> vec4<u32>(16u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 3u;
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    let c = plane_vec4(0u, row, i + 2u);
    let d = plane_vec4(0u, row, i + 3u);
    return array<vec4<f32>, 8>(
        integers(a.xy), integers(a.zw), integers(b.xy), integers(b.zw),
        integers(c.xy), integers(c.zw), integers(d.xy), integers(d.zw));
}
