// Codes as f32 without conversions, which are slow on NVIDIA's GPUs: 2^(23 - p) + n, for n below
// 2^(23 - p), is a number that ends in the bits of n, from bit p on. What codes are around comes
// off with the power of two.

const VALUE_SUMS = !CODES_SIGNED && CODES_CENTER == 0;
const VALUE_BIAS = 0.0;
const VALUE_CENTER = select(f32(CODES_CENTER), 128.0, CODES_SIGNED);

// 2^(23 - p) for the places p = 0, 4, 8, 12 and 16, which compilers keep in registers as they do
// not see that they are constants: masks are constants of the same operations, and few GPUs take
// two of them.
var<private> powers: vec4<u32>;
var<private> power16: u32;

fn values_init(lane: u32) {
    let zero = lane >> 16u;
    powers = vec4<u32>(0x4b000000u, 0x49000000u, 0x47000000u, 0x45000000u) + vec4<u32>(zero);
    power16 = 0x43000000u + zero;
}

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
    return s;
}
