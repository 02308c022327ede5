// BF16: plane w, two a word, low half first: the upper halves of f32 numbers.
// w[i] = f32 with bits w[i] << 16
fn decode_init(lane: u32) {}

fn uppers(v: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(v.x << 16u, v.x & 0xffff0000u, v.y << 16u, v.y & 0xffff0000u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 3u;
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    let c = plane_vec4(0u, row, i + 2u);
    let d = plane_vec4(0u, row, i + 3u);
    return array<vec4<f32>, 8>(
        uppers(a.xy), uppers(a.zw), uppers(b.xy), uppers(b.zw),
        uppers(c.xy), uppers(c.zw), uppers(d.xy), uppers(d.zw));
}
