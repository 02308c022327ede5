// Four rows times one column of x, 32 weights each, the lane being the row; every lane reads the same activations.

@group(0) @binding(3) var<storage, read> x: array<f32>;  // [batch, k]

// s + (a, b, c, d) . x[col, k .. k + 32]
fn dot_rows(a: array<vec4<f32>, 8>, b: array<vec4<f32>, 8>, c: array<vec4<f32>, 8>, d: array<vec4<f32>, 8>,
            col: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    let first = params.x_offset + col * params.x_stride;
    var s = sum;
    for (var i = 0u; i < 8u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let at = k + 4u * i + j;
            let v = select(0.0, x[first + min(at, params.cols - 1u)], at < params.cols);
            s = fma(vec4<f32>(a[i][j], b[i][j], c[i][j], d[i][j]), vec4<f32>(v), s);
        }
    }
    return s;
}
