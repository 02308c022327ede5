// IQ3_S: super-blocks of 256 weights; planes qs (2 words per 32 weights: low bytes of eight entries
// of the grid), signs (1 word per 32), qh, scales (3 words per 256: a byte of ninth bits per 32,
// then a nibble s per 32), d (f16).
// w[i] = d * (1 + 2 * s[i / 32]) * grid[q[i / 4]][i % 4] * sign[i]; every product is exact.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

fn codes32(row: u32, k: u32) -> Codes {
    let chunk = k >> 5u;
    let block = k >> 8u;
    let scales = plane_word(2u, row, 3u * block + 2u) >> (4u * (chunk & 7u));
    let d = plane_f16(3u, row, block) * f32(1u + 2u * (scales & 15u));
    let qh = plane_word(2u, row, 3u * block + ((chunk >> 2u) & 1u)) >> (8u * (chunk & 3u));
    let low = (vec4<u32>(qh) << vec4<u32>(8u, 7u, 6u, 5u)) & vec4<u32>(0x100u);
    let high = (vec4<u32>(qh) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(0x100u);
    let q0 = book4(bytes(plane_word(0u, row, 2u * chunk)) | low);
    let q1 = book4(bytes(plane_word(0u, row, 2u * chunk + 1u)) | high);
    let q = array<u32, 8>(q0.x, q0.y, q0.z, q0.w, q1.x, q1.y, q1.z, q1.w);
    return signed_codes(q, plane_word(1u, row, chunk), d, d);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return scaled_codes(codes32(row, k));
}
