// Activations 16 bytes at a time: k, x_offset and x_stride are multiples of 4. Elements past the
// last column read as 0.

@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;  // [batch, k / 4]

// x[col, k .. k + 4]
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    if (k >= params.cols) {
        return vec4<f32>(0.0);
    }
    return x[(params.x_offset + col * params.x_stride + k) >> 2u];
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
