// Codes as f32 without conversions, which are slow on NVIDIA's GPUs: those of four bits as in
// lib/values_powers.wgsl, bytes in the same way. What codes are around comes off with the power of
// two.

const VALUE_SUMS = !CODES_SIGNED && CODES_CENTER == 0;
const VALUE_BIAS = 0.0;
const VALUE_CENTER = select(f32(CODES_CENTER), 128.0, CODES_SIGNED);

// Four codes that lie in the bytes of a word, below 128 or with signs.
fn byte_values(q: u32) -> vec4<f32> {
    if (CODES_SIGNED) {
        return biased_values(q ^ 0x80808080u);
    }
    let v = vec4<u32>(q, q, q, q >> 8u) & vec4<u32>(0x7fu, 0x7f00u, 0x7f0000u, 0x7f0000u);
    let b = bitcast<vec4<f32>>(v | vec4<u32>(powers.x, powers.z, power16, power16));
    return b - (vec4<f32>(8388608.0, 32768.0, 128.0, 128.0) + VALUE_CENTER);
}

// Four codes with signs, 128 more than they are.
fn biased_values(q: u32) -> vec4<f32> {
    let v = vec4<u32>(q, q, q >> 16u, q >> 16u) & vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u);
    let b = bitcast<vec4<f32>>(v | powers.xzxz);
    return b - (vec4<f32>(8388608.0, 32768.0, 8388608.0, 32768.0) + 128.0);
}

// What sums of values and of activations are multiplied by, of the scale and offset of the codes.
fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return s;
}
