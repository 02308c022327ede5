// TQ1_0: blocks of 256 weights; planes qs (12 words a block, five trits a byte), qh (1 word, four
// trits a byte), d (f16).
// w[i] = (trit[i] - 1) * d; trit n of byte b is ((b * 3^n mod 256) * 3) >> 8
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = 1;
const TWO_SCALES = false;

// One trit of each byte, the one that `power` = 3^n brings to the front.
fn trits(v: vec4<u32>, power: vec4<u32>) -> vec4<u32> {
    let even = ((v & vec4<u32>(0x00ff00ffu)) * power) & vec4<u32>(0x00ff00ffu);
    let odd = (((v >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu)) * power) & vec4<u32>(0x00ff00ffu);
    return (((even * 3u) >> vec4<u32>(8u)) & vec4<u32>(0x00030003u)) | ((odd * 3u) & vec4<u32>(0x03000300u));
}

struct Raw {
    a: vec4<u32>,
    b: vec4<u32>,
    low: u32,
    high: vec4<u32>,
    d: u32,
}

// Chunks 0..4 of a block are the trits 0..4 of words 0..7; chunks 5 and 6 and half of chunk 7 are
// the trits 0..4 of words 8..11, two trits a chunk; the other half of chunk 7 is the trits 0..3 of
// qh.
fn raw32(p: Place, i: u32) -> Raw {
    let block = i >> 3u;
    let chunk = i & 7u;
    let a = vec4_at(p, 0u, 3u * block + select(0u, 2u, chunk > 4u));
    let b = vec4_at(p, 0u, 3u * block + select(1u, 2u, chunk > 4u));
    let qh = word_at(p, 1u, block);
    // Bytes of powers of three, for chunks 0..3 and for 4..7.
    let low = byte_of(select(0x1b090301u, 0x51090151u, chunk > 3u), chunk);
    let high = vec4<u32>(byte_of(select(0x1b090301u, 0x001b0351u, chunk > 3u), chunk));
    let last = chunk == 7u;
    return Raw(
        a, select(b, vec4<u32>(qh), last), low, select(high, vec4<u32>(1u, 3u, 9u, 27u), last),
        word_at(p, 2u, block >> 1u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return byte_quad(trits(r.a, vec4<u32>(r.low)), trits(r.b, r.high), i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return byte_values(raw_quad(r, i));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let d = f16_of(r.d, chunk >> 3u);
    return vec2<f32>(d, -d);
}
