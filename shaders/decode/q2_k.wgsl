// Q2_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), sc (a byte per 16: scale
// low, minimum high), dm (f16 pair).
// w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;

fn d_and_dmin(row: u32, k: u32) -> vec2<f32> {
    return unpack2x16float(plane_word(2u, row, k >> 8u));
}

// The scales of the two halves of a chunk, then their offsets.
fn scales_and_offsets(sc: u32, dm: vec2<f32>) -> vec4<f32> {
    let d = dm.x * vec2<f32>(vec2<i32>(i32(sc & 15u), i32((sc >> 8u) & 15u)));
    let m = dm.y * vec2<f32>(vec2<i32>(i32((sc >> 4u) & 15u), i32((sc >> 12u) & 15u)));
    return vec4<f32>(d, -m);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    return pairs(vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let dm = scales_and_offsets(plane_u16(1u, row, k >> 5u), d_and_dmin(row, k));
    return affine2(quads(row, k), dm.xy, dm.zw);
}

fn codes32(row: u32, k: u32) -> Codes {
    let dm = scales_and_offsets(plane_u16(1u, row, k >> 5u), d_and_dmin(row, k));
    return Codes(quads(row, k), dm.xy, dm.zw);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(1u, row, k >> 8u), d_and_dmin(row, k));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let dm = scales_and_offsets(pair_of(s, k), s.d);
    return Codes(quads(row, k), dm.xy, dm.zw);
}
