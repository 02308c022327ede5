// IQ3_S: super-blocks of 256 weights; planes qs (2 words per 32 weights: low bytes of eight entries
// of the grid), signs (1 word per 32), qh, scales (3 words per 256: a byte of ninth bits per 32,
// then a nibble s per 32), d (f16).
// w[i] = d * (1 + 2 * s[i / 32]) * grid[q[i / 4]][i % 4] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;
const TWO_SCALES = false;

struct Raw {
    a: vec4<u32>,  // entries
    b: vec4<u32>,
    signs: u32,
    scales: u32,
    d: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let block = chunk >> 3u;
    let qh = byte_of(word_at(p, 2u, 3u * block + ((chunk >> 2u) & 1u)), chunk);
    let low = (vec4<u32>(qh) << vec4<u32>(8u, 7u, 6u, 5u)) & vec4<u32>(0x100u);
    let high = (vec4<u32>(qh) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(0x100u);
    let a = book4(bytes(word_at(p, 0u, 2u * chunk)) | low);
    let b = book4(bytes(word_at(p, 0u, 2u * chunk + 1u)) | high);
    return Raw(a, b, word_at(p, 1u, chunk), word_at(p, 2u, 3u * block + 2u), word_at(p, 3u, block >> 1u));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return negated(byte_quad(r.a, r.b, i), signs_of(r.signs, i));
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return biased_values(negated_biased(byte_quad(r.a, r.b, i), signs_of(r.signs, i)));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    let s = (r.scales >> (4u * (chunk & 7u))) & 15u;
    return vec2<f32>(f16_of(r.d, chunk >> 3u) * f32(1u + 2u * s), 0.0);
}
