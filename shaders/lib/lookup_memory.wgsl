// The sixteen values of the codebook in workgroup memory.

var<workgroup> sixteen: array<f32, 16>;

fn lookup_init(lane: u32) {
    for (var i = lane; i < 16u; i += WORKGROUP) {
        sixteen[i] = bitcast<f32>(book[i]);
    }
    workgroupBarrier();
}

// The values of the four codes in the bytes of `q`.
fn lookup(q: u32) -> vec4<f32> {
    return vec4<f32>(sixteen[q & 15u], sixteen[(q >> 8u) & 15u], sixteen[(q >> 16u) & 15u], sixteen[q >> 24u]);
}

// The values of two quads of codes.
fn lookup_pair(a: u32, b: u32) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(lookup(a), lookup(b));
}
