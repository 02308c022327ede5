// Activations as integers, as bitsandbytes makes them: round(half(v) * (127 / absmax)).

// The activation as f16 has it, at most the largest there is.
fn clamped(v: f32) -> f32 {
    return clamp(half_value(v), -65504.0, 65504.0);
}

// Its magnitude as bits, which sort as the numbers do.
fn magnitude(v: f32) -> u32 {
    return bitcast<u32>(abs(clamped(v)));
}

fn code(v: f32, scale: f32) -> i32 {
    return i32(round(clamped(v) * scale));
}

// 127 times the reciprocal of v, each rounded to even as bitsandbytes has it, for the bits of an f16 v as f32. 0 for 0. WGSL allows
// quotients to be off: integers do both.
fn scale_of(bits: u32) -> f32 {
    if (bits == 0u) {
        return 0.0;
    }
    let m = ((bits >> 13u) & 0x3ffu) | 0x400u;  // v = m 2^(e - 137)
    let e = bits >> 23u;
    // floor(2^35 / m) in two steps that fit 32 bits: 25 bits, or 2^25. No reciprocal is a tie, so the last bit decides.
    let high = (1u << 22u) / m;
    let rest = ((1u << 22u) % m) << 13u;
    let reciprocal = (((high << 13u) | (rest / m)) + 1u) >> 1u;
    let p = reciprocal * 127u;
    // From 30 or 31 bits to 24, ties to even.
    let shift = 6u + (p >> 30u);
    let kept = p >> shift;
    let tail = p & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = u32(tail > half || (tail == half && (kept & 1u) == 1u));
    // kept 2^(shift - 34) 2^(137 - e); kept may have become 2^24, which the sum carries into the exponent.
    return bitcast<f32>(((127u + 23u + shift - 34u + 137u - e) << 23u) + (kept + up - (1u << 23u)));
}
