// Codes as f32: those of four bits without conversions, as in lib/values_mantissa.wgsl, and bytes by
// conversion, as in lib/values_converted.wgsl. NVIDIA's GPUs convert at a quarter to an eighth of
// the rate of other operations, but beside them, and bytes take more operations without.

const VALUE_BIAS = select(0.0, 128.0, CODES_SIGNED);
// Codes around 8 have four bits, and lose it with the power of two. What others are around comes
// off by the sum of the activations.
const VALUE_CENTER = select(0.0, 8.0, CODES_CENTER == 8);
const VALUE_SUMS = CODES_CENTER != 8;

// 2^(23 - p) for the places p = 0, 4, 8, 12 and 16: see lib/values_mantissa.wgsl.
var<private> powers: vec4<u32>;
var<private> power16: u32;

fn values_init(lane: u32) {
    let zero = lane >> 16u;
    powers = vec4<u32>(0x4b000000u, 0x49000000u, 0x47000000u, 0x45000000u) + vec4<u32>(zero);
    power16 = 0x43000000u + zero;
}

// Four codes that lie in the bytes of a word.
fn byte_values(q: u32) -> vec4<f32> {
    return quad(select(q, q ^ 0x80808080u, CODES_SIGNED)) - VALUE_CENTER;
}

// Four codes with signs, 128 more than they are.
fn biased_values(q: u32) -> vec4<f32> {
    return quad(q);
}

// Quad `i` of 32 four-bit codes where they lie: bits 0, 8, 16 of a word and, twelve further down,
// 12; the high ones 4, 12, 8 and 16.
fn nibble_values(v: vec4<u32>, i: u32) -> vec4<f32> {
    let a = component(v, i >> 1u);
    let b = a >> 12u;
    if ((i & 1u) == 1u) {
        let n = vec4<u32>(a, a, b, b) & vec4<u32>(0xf0u, 0xf000u, 0xf00u, 0xf0000u);
        let high = bitcast<vec4<f32>>(n | vec4<u32>(powers.ywz, power16));
        return high - (vec4<f32>(524288.0, 2048.0, 32768.0, 128.0) + VALUE_CENTER);
    }
    let n = vec4<u32>(a, a, a, b) & vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000u);
    let low = bitcast<vec4<f32>>(n | vec4<u32>(powers.xz, power16, powers.w));
    return low - (vec4<f32>(8388608.0, 32768.0, 128.0, 2048.0) + VALUE_CENTER);
}

// What sums of values and of activations are multiplied by, of the scale and offset of the codes.
fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(s.x, s.y - VALUE_BIAS * s.x);
}
