// F64: plane w, two words a weight, low word first.
// w[i] = f32(w[i]), rounded to nearest even
fn decode_init(lane: u32) {}

// In integers, as there is no f64. What is beyond f32 becomes infinite.
fn singles(row: u32, i: u32) -> vec4<f32> {
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    let hi = vec4<u32>(a.yw, b.yw);
    let lo = vec4<u32>(a.xz, b.xz);
    let exponent = (hi >> vec4<u32>(20u)) & vec4<u32>(0x7ffu);
    let normal = max(exponent, vec4<u32>(897u));  // 897 is the exponent of the smallest normal f32
    // The 24 leading bits, and of the rest the first 31 and whether there is more. Subnormal
    // numbers lose more bits.
    let top = ((hi & vec4<u32>(0xfffffu)) << vec4<u32>(3u)) | (lo >> vec4<u32>(29u)) | vec4<u32>(0x800000u);
    let rest = lo << vec4<u32>(3u);
    let shift = min(normal - exponent, vec4<u32>(25u));
    let kept = top >> shift;
    let more = ((top << vec4<u32>(1u)) << (vec4<u32>(31u) - shift)) | min(rest, vec4<u32>(1u));
    let lost = select(more, rest, shift == vec4<u32>(0u));
    let up = select(vec4<u32>(0u), vec4<u32>(1u), lost + (kept & vec4<u32>(1u)) > vec4<u32>(0x80000000u));
    // A carry goes into the exponent, which is right.
    let finite = (min(normal - vec4<u32>(897u), vec4<u32>(254u)) << vec4<u32>(23u)) + kept + up;
    let sign = hi & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(sign | min(finite, vec4<u32>(0x7f800000u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 1u;
    return array<vec4<f32>, 8>(
        singles(row, i), singles(row, i + 2u), singles(row, i + 4u), singles(row, i + 6u),
        singles(row, i + 8u), singles(row, i + 10u), singles(row, i + 12u), singles(row, i + 14u));
}
