// Codes that are numbers themselves: a decoder says with CODES_SIGNED whether their bytes have
// signs. Those with have no offsets. Those without are below 128, and have offsets: of CODES_CENTER
// times the scale, or, where that is 0, of their own.

// Code `i % 4` of a quad times this is what `centered_values` gives: bytes that have no signs stay
// where they are.
fn code_scale(i: u32) -> f32 {
    return select(bitcast<f32>((127u - 8u * (i & 3u)) << 23u), 1.0, CODES_SIGNED);
}

// The values of a quad less their center, to be multiplied by `code_scale`. The center is taken off
// here and not in the offset, so that what is zero stays zero.
fn centered_values(q: u32) -> vec4<f32> {
    if (CODES_SIGNED) {
        return quad_signed(q);
    }
    let v = vec4<u32>(q) & vec4<u32>(0x7fu, 0x7f00u, 0x7f0000u, 0x7f000000u);
    if (CODES_CENTER == 0) {
        return vec4<f32>(vec4<i32>(v));
    }
    // 2^23 + n, for n below 2^23, is a number that ends in the bits of n: taking off 2^23 with the
    // center is one operation less than taking off the center and converting.
    let low = bitcast<vec3<f32>>(v.xyz | vec3<u32>(0x4b000000u)) - (8388608.0 + f32(CODES_CENTER) * vec3<f32>(1.0, 256.0, 65536.0));
    return vec4<f32>(low, f32(i32(v.w) - CODES_CENTER * 0x1000000));
}

// The quad as signed bytes.
fn code_bytes(q: u32) -> u32 {
    return q;
}

// Four weights of codes q, with their scale and offset. Both ways to take a center off are exact
// except for the sign of a zero: with d < 0 and q = center the product is -0 as in the reference,
// the fma is +0. Only what hands out weights (ZERO_SIGN) pays one operation more for it.
fn decoded_quad(q: u32, s: vec2<f32>) -> vec4<f32> {
    if (CODES_SIGNED) {
        return s.x * quad_signed(q);
    }
    if (ZERO_SIGN && CODES_CENTER > 0) {
        return (quad(q) - vec4<f32>(f32(CODES_CENTER))) * s.x;
    }
    return fma(quad(q), vec4<f32>(s.x), vec4<f32>(s.y));
}
