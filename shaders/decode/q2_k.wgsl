// Q2_K: super-blocks of 256 weights; planes qs (2 words per 32 weights), sc (a byte per 16: scale low, minimum high), dm (f16 pair).
// w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;

const TOGETHER = 8u;

struct Shared {
    sc: vec4<u32>,
    dm: u32,
}

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(1u, row, k >> 8u), plane_word(2u, row, k >> 8u));
}

// The scales of the two halves of a chunk, then their offsets, of the word of `sc` for 64 weights, and of `dm`.
fn scales_and_offsets(word: u32, d_dmin: u32, k: u32) -> vec4<f32> {
    let dm = unpack2x16float(d_dmin);
    let sc = word >> (((k >> 5u) & 1u) * 16u);
    let d = dm.x * vec2<f32>(vec2<i32>(i32(sc & 15u), i32((sc >> 8u) & 15u)));
    let m = dm.y * vec2<f32>(vec2<i32>(i32((sc >> 4u) & 15u), i32((sc >> 12u) & 15u)));
    return vec4<f32>(d, -m);
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    return pairs(vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u)));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let dm = scales_and_offsets(plane_word(1u, row, k >> 6u), plane_word(2u, row, k >> 8u), k);
    return affine2(quads(row, k), dm.xy, dm.zw);
}

fn codes32(row: u32, k: u32) -> Codes {
    let dm = scales_and_offsets(plane_word(1u, row, k >> 6u), plane_word(2u, row, k >> 8u), k);
    return Codes(quads(row, k), dm.xy, dm.zw);
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let dm = scales_and_offsets(s.sc[(k >> 6u) & 3u], s.dm, k);
    return Codes(quads(row, k), dm.xy, dm.zw);
}
