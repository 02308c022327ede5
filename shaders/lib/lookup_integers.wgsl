// The values of all pairs of codes as signed bytes in workgroup memory, for products of integers.

var<workgroup> two_bytes: array<u32, 256>;

fn lookup_init(lane: u32) {
    for (var i = lane; i < 256u; i += WORKGROUP) {
        let v = vec2<i32>(bitcast<vec2<f32>>(vec2<u32>(book[i & 15u], book[i >> 4u])));
        two_bytes[i] = u32(v.x & 255) | (u32(v.y & 255) << 8u);
    }
    workgroupBarrier();
}

// The values of the four codes in the bytes of `q`.
fn code_bytes(q: u32) -> u32 {
    let pairs = q | (q >> 4u);
    return two_bytes[pairs & 255u] | (two_bytes[(pairs >> 16u) & 255u] << 16u);
}

fn lookup(q: u32) -> vec4<f32> {
    return quad_signed(code_bytes(q));
}
