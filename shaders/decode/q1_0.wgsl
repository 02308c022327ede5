// Q1_0: blocks of 128 weights; planes qs (1 word per 32 weights), d (f16).
// w[i] = q[i] == 1 ? d : -d
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;

// Bit i of byte j of `minus` flips the sign of weight 4 i + j.
fn flipped(d: u32, minus: u32, i: u32) -> vec4<f32> {
    let signs = vec4<u32>(minus) << (vec4<u32>(31u, 23u, 15u, 7u) - vec4<u32>(i));
    return bitcast<vec4<f32>>(vec4<u32>(d) ^ (signs & vec4<u32>(0x80000000u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let d = bitcast<u32>(plane_f16(1u, row, k >> 7u));
    let minus = ~plane_word(0u, row, k >> 5u);
    return array<vec4<f32>, 8>(
        flipped(d, minus, 0u), flipped(d, minus, 1u), flipped(d, minus, 2u), flipped(d, minus, 3u),
        flipped(d, minus, 4u), flipped(d, minus, 5u), flipped(d, minus, 6u), flipped(d, minus, 7u));
}

// w = 2 d * bit - d
fn codes32(row: u32, k: u32) -> Codes {
    let d = plane_f16(1u, row, k >> 7u);
    let bits = plane_word(0u, row, k >> 5u);
    let q = array<u32, 8>(
        bits & 0x01010101u, (bits >> 1u) & 0x01010101u, (bits >> 2u) & 0x01010101u, (bits >> 3u) & 0x01010101u,
        (bits >> 4u) & 0x01010101u, (bits >> 5u) & 0x01010101u, (bits >> 6u) & 0x01010101u, (bits >> 7u) & 0x01010101u);
    return codes(q, 2.0 * d, -d);
}
