// F16: plane w, two IEEE halves a word, low half first.
// w[i] = f32(w[i])
fn decode_init(lane: u32) {}

fn halves(v: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 3u;
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    let c = plane_vec4(0u, row, i + 2u);
    let d = plane_vec4(0u, row, i + 3u);
    return array<vec4<f32>, 8>(
        halves(a.xy), halves(a.zw), halves(b.xy), halves(b.zw),
        halves(c.xy), halves(c.zw), halves(d.xy), halves(d.zw));
}
