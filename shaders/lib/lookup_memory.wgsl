// The sixteen values of the book in workgroup memory.

var<workgroup> sixteen: array<f32, 16>;

fn lookup_init(lane: u32) {
    for (var i = lane; i < 16u; i += LANES) {
        sixteen[i] = bitcast<f32>(book[i]);
    }
    workgroupBarrier();
}

// The values of the four codes in the bytes of `q`.
fn lookup(q: u32) -> vec4<f32> {
    return vec4<f32>(sixteen[q & 15u], sixteen[(q >> 8u) & 15u], sixteen[(q >> 16u) & 15u], sixteen[q >> 24u]);
}

// The values of 32 codes times a scale for each 16.
fn lookup32(q: array<u32, 8>, d: vec2<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        d.x * lookup(q[0]), d.x * lookup(q[1]), d.x * lookup(q[2]), d.x * lookup(q[3]),
        d.y * lookup(q[4]), d.y * lookup(q[5]), d.y * lookup(q[6]), d.y * lookup(q[7]));
}
