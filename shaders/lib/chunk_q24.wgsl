// 32 weights as codes and activations as integers of three bytes.

struct W {
    q: array<vec4<u32>, 2>,
    d: vec2<f32>,
    m: vec2<f32>,
}

struct X {
    lo: Digits,
    hi: Digits,
    d: f32,
}

fn w_chunk(row: u32, k: u32) -> W {
    let c = codes32(row, k);
    let lo = vec4<u32>(code_bytes(c.q[0]), code_bytes(c.q[1]), code_bytes(c.q[2]), code_bytes(c.q[3]));
    let hi = vec4<u32>(code_bytes(c.q[4]), code_bytes(c.q[5]), code_bytes(c.q[6]), code_bytes(c.q[7]));
    return W(array<vec4<u32>, 2>(lo, hi), c.d, c.m);
}

fn x_chunk(t: Tile, i: u32, k: u32, lane: u32) -> X {
    let start = x_start(x_column(t, i));
    let tail = x_part(start, k >> 5u, X_PARTS - 1u);
    return X(x_digits(start, k >> 5u, 0u, tail.y), x_digits(start, k >> 5u, 1u, tail.z), bitcast<f32>(tail.x));
}

fn dot_chunk(w: W, x: X) -> f32 {
    let lo = dot_digits(w.q[0], x.lo);
    let hi = dot_digits(w.q[1], x.hi);
    return x.d * ((w.d.x * lo + w.d.y * hi) + (w.m.x * x.lo.sum + w.m.y * x.hi.sum));
}
