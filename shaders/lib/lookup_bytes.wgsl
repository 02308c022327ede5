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
    let pairs = q | (q >> 4u);
    return vec4<f32>(two_values[pairs & 255u], two_values[(pairs >> 16u) & 255u]);
}
