// IQ4_XS: super-blocks of 256 weights; planes qs (4 words per 32 weights), sc (a byte per 32), d
// (f16).
// w[i] = d * (sc[i / 32] - 32) * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

// (d * sc) is exact; its product with the value rounds once, as in the reference.
fn scales(row: u32, k: u32) -> vec2<f32> {
    let d = plane_f16(2u, row, k >> 8u);
    let sc = (plane_word(1u, row, k >> 7u) >> (((k >> 5u) & 3u) * 8u)) & 255u;
    return vec2<f32>(d * (f32(i32(sc)) - 32.0));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
