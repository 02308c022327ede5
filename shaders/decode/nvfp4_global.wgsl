// NVFP4_GLOBAL: groups of 16 weights; planes qs (4 words for 32 weights), d (E4M3, a byte a group).
// Behind the sixteen values the codebook has half the scale of each byte.
// w[i] = scale[d[i / 16]] / 2 * book[q[i]]
fn decode_init(lane: u32) {
    lookup_init(lane);
}

// E4M3 by integers: drivers may flush subnormal halves.
fn e4m3(d: vec2<u32>) -> vec2<f32> {
    let a = d & vec2<u32>(0x7fu);
    let normal = (a << vec2<u32>(20u)) + vec2<u32>(120u << 23u);
    let small = bitcast<vec2<u32>>(vec2<f32>(vec2<i32>(a)) * 0.001953125);
    return bitcast<vec2<f32>>(select(normal, small, a < vec2<u32>(8u)) | ((d & vec2<u32>(0x80u)) << vec2<u32>(24u)));
}

// Where weights are handed out the scale is that of the table, to the bit. A product takes the byte
// times the scale of one (0x38), which may be a last bit off where the tensor's scale divides: two
// words fewer to load, a quarter of the time on software adapters.
fn scales(row: u32, k: u32) -> vec2<f32> {
    let both = plane_word(1u, row, k >> 6u) >> (((k >> 5u) & 1u) * 16u);
    let d = vec2<u32>(both & 255u, (both >> 8u) & 255u);
    if (ZERO_SIGN) {
        return bitcast<vec2<f32>>(vec2<u32>(book[16u + d.x], book[16u + d.y]));
    }
    return e4m3(d) * bitcast<f32>(book[16u + 0x38u]);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return lookup32(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
