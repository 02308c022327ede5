// F16: plane w, two IEEE halves a word, low half first.
// w[i] = f32(w[i])
fn decode_init(lane: u32) {}

struct Raw {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let i = 4u * chunk;
    return Raw(vec4_at(p, 0u, i), vec4_at(p, 0u, i + 1u), vec4_at(p, 0u, i + 2u), vec4_at(p, 0u, i + 3u));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    let v = two_words(r.a, r.b, r.c, r.d, i);
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}
