// Activations one at a time, through `input`: any number of columns. Elements past the last column
// read as 0.

fn x_element(col: u32, k: u32) -> f32 {
    // No branch: 32 of them for each column took SwiftShader's compiler minutes and gigabytes.
    let first = params.x_offset + col * params.x_stride;
    return select(0.0, input(first + min(k, params.cols - 1u)), k < params.cols);
}

// x[col, k .. k + 4]
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(x_element(col, k), x_element(col, k + 1u), x_element(col, k + 2u), x_element(col, k + 3u));
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
