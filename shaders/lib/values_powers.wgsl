// Four-bit codes to f32 without conversions, for lib/values_mantissa.wgsl and lib/values_mixed.wgsl:
// 2^(23 - p) + n, for n below 2^(23 - p), is a number that ends in the bits of n, from bit p on.

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
