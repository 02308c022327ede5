// Codes as f32 by conversion of bytes, which is one operation on AMD's and Intel's GPUs. What they
// are around, and the 128 that makes bytes without signs of those with, comes off by the sum of
// the activations.

const VALUE_SUMS = true;
const VALUE_BIAS = select(0.0, 128.0, CODES_SIGNED);

fn values_init(lane: u32) {}

// Four codes that lie in the bytes of a word.
fn byte_values(q: u32) -> vec4<f32> {
    return quad(select(q, q ^ 0x80808080u, CODES_SIGNED));
}

// Four codes with signs, 128 more than they are.
fn biased_values(q: u32) -> vec4<f32> {
    return quad(q);
}

// Quad `i` of 32 four-bit codes.
fn nibble_values(v: vec4<u32>, i: u32) -> vec4<f32> {
    return quad(nibble_quad(v, i));
}

// What sums of values and of activations are multiplied by, of the scale and offset of the codes.
fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(s.x, s.y - VALUE_BIAS * s.x);
}
