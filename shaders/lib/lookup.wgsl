// 32 weights by `lookup`, with a scale for each 16.

fn lookup32(q: array<u32, 8>, d: vec2<f32>) -> array<vec4<f32>, 8> {
    let a = lookup_pair(q[0], q[1]);
    let b = lookup_pair(q[2], q[3]);
    let c = lookup_pair(q[4], q[5]);
    let e = lookup_pair(q[6], q[7]);
    return array<vec4<f32>, 8>(
        d.x * a[0], d.x * a[1], d.x * b[0], d.x * b[1],
        d.y * c[0], d.y * c[1], d.y * e[0], d.y * e[1]);
}

// Codes are indices here; `centered_values` and `code_bytes` as in lib/quads.wgsl.
const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn code_scale(i: u32) -> f32 {
    return 1.0;
}

fn centered_values(q: u32) -> vec4<f32> {
    return lookup(q);
}

fn code_bytes(q: u32) -> u32 {
    return pack4xI8(vec4<i32>(lookup(q)));
}
