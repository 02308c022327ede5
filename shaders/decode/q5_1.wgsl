// Q5_1: blocks of 32 weights; planes qs (4 words a block), qh (1 word), dm (f16 pair: d, m).
// w[i] = d * q[i] + m
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;

fn scale_and_offset(row: u32, k: u32) -> vec2<f32> {
    return unpack2x16float(plane_word(2u, row, k >> 5u));
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let block = k >> 5u;
    return with_fifth_bit(nibbles(plane_vec4(0u, row, block)), plane_word(1u, row, block));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let dm = scale_and_offset(row, k);
    return affine(quads(row, k), dm.x, dm.y);
}

fn codes32(row: u32, k: u32) -> Codes {
    let dm = scale_and_offset(row, k);
    return codes(quads(row, k), dm.x, dm.y);
}
