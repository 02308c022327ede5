// Codes as f32: those of four bits without conversions, as in lib/values_powers.wgsl, and bytes by
// conversion, as in lib/values_converted.wgsl. NVIDIA's GPUs convert at a quarter to an eighth of
// the rate of other operations, but beside them, and bytes take more operations without.

const VALUE_BIAS = select(0.0, 128.0, CODES_SIGNED);
// Codes around 8 have four bits, and lose it with the power of two. What others are around comes
// off by the sum of the activations.
const VALUE_CENTER = select(0.0, 8.0, CODES_CENTER == 8);
const VALUE_SUMS = CODES_CENTER != 8;

// Four codes that lie in the bytes of a word.
fn byte_values(q: u32) -> vec4<f32> {
    return quad(select(q, q ^ 0x80808080u, CODES_SIGNED)) - VALUE_CENTER;
}

// Four codes with signs, 128 more than they are.
fn biased_values(q: u32) -> vec4<f32> {
    return quad(q);
}

// What sums of values and of activations are multiplied by, of the scale and offset of the codes.
fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(s.x, s.y - VALUE_BIAS * s.x);
}
