// Codes that are numbers themselves: a decoder says with CODES_SIGNED whether their bytes have signs. Those without may have
// offsets and are below 128; those with have none.

// Code `i % 4` of a quad times this is what `code_values` gives: bytes that have no signs stay where they are.
fn code_scale(i: u32) -> f32 {
    return select(bitcast<f32>((127u - 8u * (i & 3u)) << 23u), 1.0, CODES_SIGNED);
}

// The values of a quad, to be multiplied by `code_scale`.
fn code_values(q: u32) -> vec4<f32> {
    if (CODES_SIGNED) {
        return quad_signed(q);
    }
    return vec4<f32>(vec4<i32>(vec4<u32>(q) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u)));
}

// The quad as signed bytes.
fn code_bytes(q: u32) -> u32 {
    return q;
}
