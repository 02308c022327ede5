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

fn code_bytes(q: u32) -> u32 {
    return pack4xI8(vec4<i32>(lookup(q)));
}
