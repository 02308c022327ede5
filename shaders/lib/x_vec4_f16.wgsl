// Activations that are given as f16, four at a time: k, x_offset and x_stride are multiples of 4.
// Elements past the last column read as 0.

@group(0) @binding(3) var<storage, read> x: array<vec2<u32>>;  // [n, k / 4]

// x[col, k .. k + 4]
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    if (k >= params.cols) {
        return vec4<f32>(0.0);
    }
    let v = x[(params.x_offset + col * params.x_stride + k) >> 2u];
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
