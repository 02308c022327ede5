// The values of all pairs of codes in workgroup memory: half as many look-ups as for single ones.

var<workgroup> two_values: array<vec2<f32>, 256>;

fn lookup_init(lane: u32) {
    for (var i = lane; i < 256u; i += WORKGROUP) {
        two_values[i] = bitcast<vec2<f32>>(vec2<u32>(book[i & 15u], book[i >> 4u]));
    }
    workgroupBarrier();
}

// The values of the four codes in the bytes of `q`.
fn lookup(q: u32) -> vec4<f32> {
    return vec4<f32>(two_values[q & 15u].x, two_values[(q >> 8u) & 15u].x, two_values[(q >> 16u) & 15u].x, two_values[q >> 24u].x);
}

// The values of two quads of codes.
fn lookup_pair(a: u32, b: u32) -> array<vec4<f32>, 2> {
    let bytes = a | (b << 4u);
    let x = two_values[bytes & 255u];
    let y = two_values[(bytes >> 8u) & 255u];
    let z = two_values[(bytes >> 16u) & 255u];
    let w = two_values[bytes >> 24u];
    return array<vec4<f32>, 2>(vec4<f32>(x.x, y.x, z.x, w.x), vec4<f32>(x.y, y.y, z.y, w.y));
}
