// Activations as integers, as bitsandbytes makes them: round(half(v) * (127 * (1 / absmax))).

// The activation as f16 has it, at most the largest there is.
fn clamped(v: f32) -> f32 {
    return clamp(half_value(v), -65504.0, 65504.0);
}

// Its magnitude as bits, which sort as the numbers do.
fn magnitude(v: f32) -> u32 {
    return bitcast<u32>(abs(clamped(v)));
}

// The magnitude of v as it is, as bits; 0 for an outlier. Rounding keeps the order, so that of the
// largest is rounded in the end, and only what is near the threshold has to be rounded to know.
fn inside(v: f32) -> u32 {
    let a = abs(v);
    if (params.threshold == 0.0 || (params.threshold > 0.001 && a < 0.99 * params.threshold)) {
        return bitcast<u32>(a);
    }
    return select(bitcast<u32>(a), 0u, is_outlier(half_value(v)));
}

// The largest magnitude in a column of x that is no outlier's, as f16 has it: its bits as f32.
fn largest_inside(first: u32, lane: u32) -> u32 {
    var top = 0u;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        top = max(top, inside(input(first + k)));
    }
    return magnitude(bitcast<f32>(largest(lane, top)));
}

fn code(v: f32, inverse: f32) -> i32 {
    return i32(round(clamped(v) * inverse));
}

// 127 times the reciprocal of an f16 v whose bits as f32 these are, each rounded to even, as
// bitsandbytes has it: WGSL allows quotients to be off, so integers do both. 0 for 0.
fn reciprocal(bits: u32) -> f32 {
    if (bits == 0u) {
        return 0.0;
    }
    let m = ((bits >> 13u) & 0x3ffu) | 0x400u;  // v = m 2^(e - 137)
    let e = bits >> 23u;
    // floor(2^35 / m) in two steps that fit 32 bits: 25 bits, or 2^25. No reciprocal is a tie, so
    // the last bit decides.
    let high = (1u << 22u) / m;
    let rest = ((1u << 22u) % m) << 13u;
    let one = (((high << 13u) | (rest / m)) + 1u) >> 1u;
    let p = one * 127u;
    // From 30 or 31 bits to 24, ties to even.
    let shift = 6u + (p >> 30u);
    let kept = p >> shift;
    let tail = p & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = u32(tail > half || (tail == half && (kept & 1u) == 1u));
    // kept 2^(shift - 34) 2^(137 - e); kept may have become 2^24, which the sum carries into the
    // exponent.
    return bitcast<f32>(((127u + 23u + shift - 34u + 137u - e) << 23u) + (kept + up - (1u << 23u)));
}
