// Activations as integers, as bitsandbytes makes them: round(half(v) * (127 / absmax)).

// The activation as f16 has it, at most the largest there is.
fn clamped(v: f32) -> f32 {
    return clamp(half_value(v), -65504.0, 65504.0);
}

// Its magnitude as bits, which sort as the numbers do.
fn magnitude(v: f32) -> u32 {
    return bitcast<u32>(abs(clamped(v)));
}

fn code(v: f32, inverse: f32) -> i32 {
    return i32(round(clamped(v) * inverse));
}

// 127 / v for the bits of an f16 v as f32, rounded to even as the CPU rounds it: WGSL allows quotients to be off, so it is an integer
// quotient. 0 for 0.
fn reciprocal(bits: u32) -> f32 {
    if (bits == 0u) {
        return 0.0;
    }
    let m = ((bits >> 13u) & 0x3ffu) | 0x400u;  // v = m 2^(e - 137)
    let e = bits >> 23u;
    // floor(127 2^29 / m), in two steps that fit 32 bits: 25 to 27 bits
    let high = (127u << 16u) / m;
    let rest = ((127u << 16u) % m) << 13u;
    let q = (high << 13u) | (rest / m);
    let more = u32(rest % m != 0u);
    // To 24 bits, ties to even.
    let shift = 1u + u32(q >= (1u << 25u)) + u32(q >= (1u << 26u));
    let kept = q >> shift;
    let tail = ((q << 1u) | more) & ((2u << shift) - 1u);
    let half = 1u << shift;
    let up = u32(tail > half || (tail == half && (kept & 1u) == 1u));
    // q 2^(-29) 2^(137 - e); kept may have become 2^24, which the sum carries into the exponent.
    return bitcast<f32>(((127u + 23u + shift - 29u + 137u - e) << 23u) + (kept + up - (1u << 23u)));
}
