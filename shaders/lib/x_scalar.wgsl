// Activations one at a time, through `input`: any number of columns. Elements past the last column
// read as 0.

// Where a column begins.
fn x_start(col: u32) -> u32 {
    return params.x_offset + col * params.x_stride;
}

fn x_element(start: u32, k: u32) -> f32 {
    // No branch: 32 of them for each column took SwiftShader's compiler minutes and gigabytes.
    return select(0.0, input(start + min(k, params.cols - 1u)), k < params.cols);
}

// Features 4 i .. 4 i + 4 of the column that begins at `start`.
fn x_quad(start: u32, i: u32) -> vec4<f32> {
    let k = 4u * i;
    return vec4<f32>(x_element(start, k), x_element(start, k + 1u), x_element(start, k + 2u), x_element(start, k + 3u));
}

// x[col, k .. k + 4]
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    return x_quad(x_start(col), k >> 2u);
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
