// Activations as f16 has them, by integer arithmetic: WGSL leaves the rounding of its own
// conversion open.

// The bits of `v` as f16, rounded to even; infinite beyond it.
fn half_bits(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let a = bits & 0x7fffffffu;
    let normal = min((a + 0xfffu + ((a >> 13u) & 1u) - 0x38000000u) >> 13u, 0x7c00u);
    let small = u32(round(abs(v) * 16777216.0));
    return ((bits >> 16u) & 0x8000u) | select(small, normal, a >= 0x38800000u);
}

// The value of `v` as f16, but 65536 beyond it. Drivers may unpack subnormal halves as zeros, so
// none is unpacked.
fn half_value(v: f32) -> f32 {
    let bits = half_bits(v);
    let a = bits & 0x7fffu;
    let normal = bitcast<f32>((a << 13u) + (112u << 23u));
    let magnitude = select(f32(a) * (1.0 / 16777216.0), normal, a >= 0x400u);
    return select(magnitude, -magnitude, bits > 0x7fffu);
}
