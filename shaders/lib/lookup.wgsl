// 32 weights by `lookup`, with a scale for each 16.

fn lookup32(q: array<u32, 8>, d: vec2<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        d.x * lookup(q[0]), d.x * lookup(q[1]), d.x * lookup(q[2]), d.x * lookup(q[3]),
        d.y * lookup(q[4]), d.y * lookup(q[5]), d.y * lookup(q[6]), d.y * lookup(q[7]));
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
