// F32: plane w, one word a weight.
// w[i] = w[i]
fn decode_init(lane: u32) {}

struct Raw {
    v: array<vec4<u32>, 8>,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let i = 8u * chunk;
    return Raw(array<vec4<u32>, 8>(
        vec4_at(p, 0u, i), vec4_at(p, 0u, i + 1u), vec4_at(p, 0u, i + 2u), vec4_at(p, 0u, i + 3u),
        vec4_at(p, 0u, i + 4u), vec4_at(p, 0u, i + 5u), vec4_at(p, 0u, i + 6u), vec4_at(p, 0u, i + 7u)));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(r.v[i]);
}
