// Codes that are numbers themselves: a decoder says with CODES_SIGNED whether their bytes have signs. Those with have no
// offsets. Those without are below 128, and have offsets: of CODES_CENTER times the scale, or, where that is 0, of their own.

// Code `i % 4` of a quad times this is what `centered_values` gives: bytes that have no signs stay where they are.
fn code_scale(i: u32) -> f32 {
    return select(bitcast<f32>((127u - 8u * (i & 3u)) << 23u), 1.0, CODES_SIGNED);
}

// The values of a quad less their center, to be multiplied by `code_scale`. The center is taken off here and not in the offset, so
// that what is zero stays zero.
fn centered_values(q: u32) -> vec4<f32> {
    if (CODES_SIGNED) {
        return quad_signed(q);
    }
    let v = vec4<i32>(vec4<u32>(q) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
    return vec4<f32>(v - CODES_CENTER * vec4<i32>(1, 0x100, 0x10000, 0x1000000));
}

// The quad as signed bytes.
fn code_bytes(q: u32) -> u32 {
    return q;
}
