// 32 weights and activations as f32.

// Structs and not aliases: naga 30 makes another SPIR-V type of a named array, and then the two do
// not match.
struct W {
    v: array<vec4<f32>, 8>,
}

struct X {
    v: array<vec4<f32>, 8>,
}

fn w_chunk(row: u32, k: u32) -> W {
    return W(weights32(row, k));
}

fn dot_chunk(w: W, x: X) -> f32 {
    var s = w.v[0] * x.v[0];
    s = fma(w.v[1], x.v[1], s);
    s = fma(w.v[2], x.v[2], s);
    s = fma(w.v[3], x.v[3], s);
    s = fma(w.v[4], x.v[4], s);
    s = fma(w.v[5], x.v[5], s);
    s = fma(w.v[6], x.v[6], s);
    s = fma(w.v[7], x.v[7], s);
    return (s.x + s.y) + (s.z + s.w);
}
