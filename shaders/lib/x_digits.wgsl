// Activations as integers of DIGITS signed bytes, the highest first, with a scale for each 32;
// zeros behind the last column.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;  // [batch, code_place(chunk, part)]: two parts a digit; then scale, sums of 16 integers each

const X_PARTS = 2u * DIGITS + 1u;

// Where a column begins.
fn x_start(col: u32) -> u32 {
    return (params.x_offset + col * params.x_stride) >> 2u;
}

fn x_part(start: u32, chunk: u32, part: u32) -> vec4<u32> {
    return x[start + code_place(chunk, part, X_PARTS)];
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}

fn dot_quads(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot_bytes(a.x, b.x) + dot_bytes(a.y, b.y) + dot_bytes(a.z, b.z) + dot_bytes(a.w, b.w);
}

// The activations of half a chunk, and their sum.
struct Digits {
    q: array<vec4<u32>, DIGITS>,
    sum: f32,
}

fn x_digits(start: u32, chunk: u32, half: u32, sum: u32) -> Digits {
    var q: array<vec4<u32>, DIGITS>;
    for (var j = 0u; j < DIGITS; j++) {
        q[j] = x_part(start, chunk, 2u * j + half);
    }
    return Digits(q, f32(bitcast<i32>(sum)));
}

// Sums of products with one digit are below 2^18, with two of them below 2^27.
fn dot_digits(w: vec4<u32>, x: Digits) -> f32 {
    let first = dot_quads(w, x.q[0]);
    if (DIGITS == 1u) {
        return f32(first);
    }
    let two = (first << 8u) + dot_quads(w, x.q[min(1u, DIGITS - 1u)]);
    return fma(f32(two), 256.0, f32(dot_quads(w, x.q[DIGITS - 1u])));
}
