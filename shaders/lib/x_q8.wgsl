// Activations as `quantize_activations_q8` leaves them: eight-bit codes with a scale for each 32,
// zeros behind the last column.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;  // [batch, chunks, 3]: codes; codes; scale, sums of 16 codes each

struct XCodes {
    lo: vec4<u32>,  // quads of signed bytes
    hi: vec4<u32>,
    d: f32,
    sums: vec2<f32>,
}

fn x_codes(col: u32, k: u32) -> XCodes {
    let at = (params.x_offset + col * params.x_stride) / 4u + (k >> 5u) * 3u;
    let scale = x[at + 2u];
    return XCodes(x[at], x[at + 1u], bitcast<f32>(scale.x), vec2<f32>(vec2<i32>(bitcast<vec2<i32>>(scale.yz))));
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}

fn dot_quads(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot_bytes(a.x, b.x) + dot_bytes(a.y, b.y) + dot_bytes(a.z, b.z) + dot_bytes(a.w, b.w);
}

// The codes of w[row, k .. k + 32] as signed bytes.
fn byte_codes(row: u32, k: u32) -> Codes {
    let c = codes32(row, k);
    let q = array<u32, 8>(
        code_bytes(c.q[0]), code_bytes(c.q[1]), code_bytes(c.q[2]), code_bytes(c.q[3]),
        code_bytes(c.q[4]), code_bytes(c.q[5]), code_bytes(c.q[6]), code_bytes(c.q[7]));
    return Codes(q, c.d, c.m);
}

// w . x for 32 weights: sums of products of codes are exact in i32, and below 2^24.
fn dot_codes(w: Codes, x: XCodes) -> f32 {
    let lo = f32(dot_quads(vec4<u32>(w.q[0], w.q[1], w.q[2], w.q[3]), x.lo));
    let hi = f32(dot_quads(vec4<u32>(w.q[4], w.q[5], w.q[6], w.q[7]), x.hi));
    return x.d * ((w.d.x * lo + w.d.y * hi) + (w.m.x * x.sums.x + w.m.y * x.sums.y));
}
