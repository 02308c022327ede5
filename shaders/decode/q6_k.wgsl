// Q6_K: super-blocks of 256 weights; planes qs (4 words per 32 weights), qh (2 words per 32), sc
// (signed bytes, one per 16), d (f16).
// w[i] = d * sc[i / 16] * (q[i] - 32)
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 32;

fn scales(sc: u32, d: f32) -> vec2<f32> {
    return d * vec2<f32>(vec2<i32>(i32(sc << 24u) >> 24u, i32(sc << 16u) >> 24u));
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    let qh = vec2<u32>(plane_word(1u, row, 2u * chunk), plane_word(1u, row, 2u * chunk + 1u));
    return with_two_bits(nibbles(plane_vec4(0u, row, chunk)), qh);
}

// (d * sc) is exact; its product with the code rounds once, as in the reference.
fn scaled(q: u32, d: f32) -> vec4<f32> {
    return (quad(q) - vec4<f32>(32.0)) * d;
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let d = scales(plane_u16(2u, row, k >> 5u), plane_f16(3u, row, k >> 8u));
    let q = quads(row, k);
    return array<vec4<f32>, 8>(
        scaled(q[0], d.x), scaled(q[1], d.x), scaled(q[2], d.x), scaled(q[3], d.x),
        scaled(q[4], d.y), scaled(q[5], d.y), scaled(q[6], d.y), scaled(q[7], d.y));
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = scales(plane_u16(2u, row, k >> 5u), plane_f16(3u, row, k >> 8u));
    return Codes(quads(row, k), d, -32.0 * d);
}

const SUPERBLOCK_CHUNKS = 8u;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared(plane_vec4(2u, row, k >> 8u), vec2<f32>(plane_f16(3u, row, k >> 8u)));
}

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    let d = scales(pair_of(s, k), s.d.x);
    return Codes(quads(row, k), d, -32.0 * d);
}
