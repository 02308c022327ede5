// Four rows times one column of x, 32 weights each, the lane being the row, for formats of codes:
// codes are multiplied, and scales and offsets come in once for 16 of them. Activations as in
// lib/dot_rows_broadcast.wgsl.

alias W = Codes;

fn row_chunk(s: Shared, row: u32, k: u32) -> W {
    return shared_codes(s, row, k);
}

// sum + (a, b, c, d) . x for the codes of four rows and four activations
fn dot_codes4(a: u32, b: u32, c: u32, d: u32, x: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return dot4(centered_values(a), centered_values(b), centered_values(c), centered_values(d), x, sum);
}

// The sum of sixteen activations that `code_scale` has made smaller.
fn sum16(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
    return dot((a + b) + (c + d), vec4<f32>(1.0, 256.0, 65536.0, 16777216.0));
}

// s + (a, b, c, d) . x[column i of the tile, k .. k + 32]
fn dot_rows(t: Tile, a: W, b: W, c: W, d: W, i: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    var v = x_share(x_column(t, i), k, lane);
    for (var j = 0u; j < SHARES; j++) {
        v[j] *= code_scale(SHARE * lane + j % SHARE);
    }
    var s = sum;
    let x0 = x_quad0(v);
    let x1 = x_quad1(v);
    let x2 = x_quad2(v);
    let x3 = x_quad3(v);
    if (!CODES_SIGNED && CODES_CENTER == 0) {
        let sum0 = sum16(x0, x1, x2, x3);
        s = fma(vec4<f32>(a.m.x, b.m.x, c.m.x, d.m.x), vec4<f32>(sum0), s);
    }
    var s0 = dot_codes4(a.q[0], b.q[0], c.q[0], d.q[0], x0, vec4<f32>(0.0));
    s0 = dot_codes4(a.q[1], b.q[1], c.q[1], d.q[1], x1, s0);
    s0 = dot_codes4(a.q[2], b.q[2], c.q[2], d.q[2], x2, s0);
    s0 = dot_codes4(a.q[3], b.q[3], c.q[3], d.q[3], x3, s0);
    s = fma(vec4<f32>(a.d.x, b.d.x, c.d.x, d.d.x), s0, s);
    let x4 = x_quad4(v);
    let x5 = x_quad5(v);
    let x6 = x_quad6(v);
    let x7 = x_quad7(v);
    if (!CODES_SIGNED && CODES_CENTER == 0) {
        let sum1 = sum16(x4, x5, x6, x7);
        s = fma(vec4<f32>(a.m.y, b.m.y, c.m.y, d.m.y), vec4<f32>(sum1), s);
    }
    var s1 = dot_codes4(a.q[4], b.q[4], c.q[4], d.q[4], x4, vec4<f32>(0.0));
    s1 = dot_codes4(a.q[5], b.q[5], c.q[5], d.q[5], x5, s1);
    s1 = dot_codes4(a.q[6], b.q[6], c.q[6], d.q[6], x6, s1);
    s1 = dot_codes4(a.q[7], b.q[7], c.q[7], d.q[7], x7, s1);
    s = fma(vec4<f32>(a.d.y, b.d.y, c.d.y, d.d.y), s1, s);
    return s;
}
