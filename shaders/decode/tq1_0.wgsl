// TQ1_0: blocks of 256 weights; planes qs (12 words a block, five trits a byte), qh (1 word, four
// trits a byte), d (f16).
// w[i] = (trit[i] - 1) * d; trit n of byte b is ((b * 3^n mod 256) * 3) >> 8
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 1;

// One trit of each byte, the one that `power` = 3^n brings to the front.
fn trits(v: vec4<u32>, power: vec4<u32>) -> vec4<u32> {
    let even = ((v & vec4<u32>(0x00ff00ffu)) * power) & vec4<u32>(0x00ff00ffu);
    let odd = (((v >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu)) * power) & vec4<u32>(0x00ff00ffu);
    return (((even * 3u) >> vec4<u32>(8u)) & vec4<u32>(0x00030003u)) | ((odd * 3u) & vec4<u32>(0x03000300u));
}

// Chunks 0..4 of a block are the trits 0..4 of words 0..7; chunks 5 and 6 and half of chunk 7 are
// the trits 0..4 of words 8..11, two trits a chunk; the other half of chunk 7 is the trits 0..3 of
// qh.
fn quads(row: u32, k: u32) -> array<u32, 8> {
    let block = k >> 8u;
    let chunk = (k >> 5u) & 7u;
    let a = plane_vec4(0u, row, 3u * block + select(0u, 2u, chunk > 4u));
    var b = plane_vec4(0u, row, 3u * block + select(1u, 2u, chunk > 4u));
    // Bytes of powers of three, for chunks 0..3 and for 4..7.
    let byte = (chunk & 3u) * 8u;
    let low = (select(0x1b090301u, 0x51090151u, chunk > 3u) >> byte) & 255u;
    var high = vec4<u32>((select(0x1b090301u, 0x001b0351u, chunk > 3u) >> byte) & 255u);
    if (chunk == 7u) {
        b = vec4<u32>(plane_word(1u, row, block));
        high = vec4<u32>(1u, 3u, 9u, 27u);
    }
    let q = trits(a, vec4<u32>(low));
    let r = trits(b, high);
    return array<u32, 8>(q.x, q.y, q.z, q.w, r.x, r.y, r.z, r.w);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return centered(quads(row, k), plane_f16(2u, row, k >> 8u), 1.0);
}

fn codes32(row: u32, k: u32) -> Codes {
    let d = plane_f16(2u, row, k >> 8u);
    return codes(quads(row, k), d, -d);
}
