// 32 weights by `lookup`, with a scale for each 16.

fn lookup32(q: array<u32, 8>, d: vec2<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        d.x * lookup(q[0]), d.x * lookup(q[1]), d.x * lookup(q[2]), d.x * lookup(q[3]),
        d.y * lookup(q[4]), d.y * lookup(q[5]), d.y * lookup(q[6]), d.y * lookup(q[7]));
}

// For books of integers.
fn lookup_quad(q: u32) -> u32 {
    return pack4xI8(vec4<i32>(lookup(q)));
}

fn lookup_codes(q: array<u32, 8>, d: vec2<f32>) -> Codes {
    let v = array<u32, 8>(
        lookup_quad(q[0]), lookup_quad(q[1]), lookup_quad(q[2]), lookup_quad(q[3]),
        lookup_quad(q[4]), lookup_quad(q[5]), lookup_quad(q[6]), lookup_quad(q[7]));
    return Codes(v, d, vec2<f32>(0.0));
}
