// Q5_K: super-blocks of 256 weights; planes qs (4 words per 32 weights), qh (1 word per 32), sc
// (bytes sc, m per 32), dm (f16 pair).
// w[i] = d * sc[i / 32] * q[i] - dmin * m[i / 32]
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 0;

fn d_and_dmin(row: u32, k: u32) -> vec2<f32> {
    return unpack2x16float(plane_word(3u, row, k >> 8u));
}

fn scale_and_offset(sc: u32, dm: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(dm.x * f32(i32(sc & 255u)), -(dm.y * f32(i32(sc >> 8u))));
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let block = k >> 5u;
    return with_fifth_bit(nibbles(plane_vec4(0u, row, block)), plane_word(1u, row, block));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let dm = scale_and_offset(plane_u16(2u, row, k >> 5u), d_and_dmin(row, k));
    return affine(quads(row, k), dm.x, dm.y);
}

fn codes32(row: u32, k: u32) -> Codes {
    let dm = scale_and_offset(plane_u16(2u, row, k >> 5u), d_and_dmin(row, k));
    return codes(quads(row, k), dm.x, dm.y);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), d_and_dmin(row, k));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let dm = scale_and_offset(pair_of(s, k), s.d);
    return codes(quads(row, k), dm.x, dm.y);
}
