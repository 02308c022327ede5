// Activations as `quantize_activations_q8` leaves them: eight-bit codes with a scale for each 32.

const DIGITS = 1u;

struct XCodes {
    lo: vec4<u32>,  // quads of signed bytes
    hi: vec4<u32>,
    d: f32,
    sums: vec2<f32>,
}

fn x_codes(col: u32, k: u32) -> XCodes {
    let start = x_start(col);
    let chunk = k >> 5u;
    let scale = x_part(start, chunk, 2u);
    let sums = vec2<f32>(vec2<i32>(bitcast<vec2<i32>>(scale.yz)));
    return XCodes(x_part(start, chunk, 0u), x_part(start, chunk, 1u), bitcast<f32>(scale.x), sums);
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
