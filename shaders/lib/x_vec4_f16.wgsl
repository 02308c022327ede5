// Activations that are given as f16, four at a time: k, x_offset and x_stride are multiples of 4.

@group(0) @binding(3) var<storage, read> x: array<vec2<u32>>;  // [n, k / 4]

// Where a column begins.
fn x_start(col: u32) -> u32 {
    return (params.x_offset + col * params.x_stride) >> 2u;
}

// Features 4 i .. 4 i + 4 of the column that begins at `start`.
fn x_quad(start: u32, i: u32) -> vec4<f32> {
    let v = select(vec2<u32>(0u), x[start + k_clamped(i)], k_exists(i));
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

// x[col, k .. k + 4]
fn x_vec4(col: u32, k: u32) -> vec4<f32> {
    return x_quad(x_start(col), k >> 2u);
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
