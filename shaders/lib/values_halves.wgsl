// Codes as f32 by way of f16, two at once, which costs Apple's GPUs nothing: 1024 + n and 64 + n /
// 16 are halves that end in the bits of n.

const VALUE_SUMS = !CODES_SIGNED && CODES_CENTER == 0;
const VALUE_BIAS = 0.0;
const VALUE_CENTER = select(f32(CODES_CENTER), 128.0, CODES_SIGNED);

fn values_init(lane: u32) {}

// Four codes that lie in the bytes of a word, below 128 or with signs.
fn byte_values(q: u32) -> vec4<f32> {
    return biased_values(select(q, q ^ 0x80808080u, CODES_SIGNED));
}

// Four codes with signs, 128 more than they are.
fn biased_values(q: u32) -> vec4<f32> {
    let a = unpack2x16float((q & 0x00ff00ffu) | 0x64006400u) - (1024.0 + VALUE_CENTER);
    let b = unpack2x16float(((q >> 8u) & 0x00ff00ffu) | 0x64006400u) - (1024.0 + VALUE_CENTER);
    return vec4<f32>(a.x, b.x, a.y, b.y);
}

// Quad `i` of 32 four-bit codes.
fn nibble_values(v: vec4<u32>, i: u32) -> vec4<f32> {
    let low = component(v, i >> 1u);
    let high = low >> 8u;
    if ((i & 1u) == 1u) {
        let a = unpack2x16float((low & 0x00f000f0u) | 0x54005400u) - (64.0 + VALUE_CENTER);
        let b = unpack2x16float((high & 0x00f000f0u) | 0x54005400u) - (64.0 + VALUE_CENTER);
        return vec4<f32>(a.x, b.x, a.y, b.y);
    }
    let a = unpack2x16float((low & 0x000f000fu) | 0x64006400u) - (1024.0 + VALUE_CENTER);
    let b = unpack2x16float((high & 0x000f000fu) | 0x64006400u) - (1024.0 + VALUE_CENTER);
    return vec4<f32>(a.x, b.x, a.y, b.y);
}

// What sums of values and of activations are multiplied by, of the scale and offset of the codes.
fn value_scale(s: vec2<f32>) -> vec2<f32> {
    return s;
}
