// I64: plane w, two words a weight, low word first.
// w[i] = f32(w[i]), rounded to nearest even beyond 2^24
fn decode_init(lane: u32) {}

fn integers(row: u32, i: u32) -> vec4<f32> {
    let a = plane_vec4(0u, row, i);
    let b = plane_vec4(0u, row, i + 1u);
    let high = vec4<u32>(a.yw, b.yw);
    // Sign and magnitude: a negative number is inverted, and one added.
    let sign = high & vec4<u32>(0x80000000u);
    let minus = vec4<u32>(vec4<i32>(high) >> vec4<u32>(31u));
    let lo = (vec4<u32>(a.xz, b.xz) ^ minus) - minus;
    let hi = (high ^ minus) + select(vec4<u32>(0u), minus & vec4<u32>(1u), lo == vec4<u32>(0u));
    return bitcast<vec4<f32>>(sign | rounded(hi, lo));
}

// The bits of f32(hi * 2^32 + lo).
fn rounded(hi: vec4<u32>, lo: vec4<u32>) -> vec4<u32> {
    // Shifted left until the highest one is bit 31 of `top`; below is `rest`.
    let small = hi == vec4<u32>(0u);
    let first = select(hi, lo, small);
    let second = select(lo, vec4<u32>(0u), small);
    let zeros = countLeadingZeros(first) & vec4<u32>(31u);
    let top = (first << zeros) | ((second >> vec4<u32>(1u)) >> (vec4<u32>(31u) - zeros));
    let rest = second << zeros;
    // 24 bits stay: the rest of them is more than half, or half and then to even.
    let kept = top >> vec4<u32>(8u);
    let lost = (top << vec4<u32>(24u)) | min(rest, vec4<u32>(1u));
    let up = select(vec4<u32>(0u), vec4<u32>(1u), lost + (kept & vec4<u32>(1u)) > vec4<u32>(0x80000000u));
    let exponent = select(vec4<u32>(189u), vec4<u32>(157u), small) - zeros;
    return select((exponent << vec4<u32>(23u)) + kept + up, vec4<u32>(0u), first == vec4<u32>(0u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let i = k >> 1u;
    return array<vec4<f32>, 8>(
        integers(row, i), integers(row, i + 2u), integers(row, i + 4u), integers(row, i + 6u),
        integers(row, i + 8u), integers(row, i + 10u), integers(row, i + 12u), integers(row, i + 14u));
}
