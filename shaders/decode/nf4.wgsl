// NF4 and FP4: codes of four bits into a codebook of sixteen values; planes qs (4 words for 32
// weights), absmax (f32 a block).
// w[i] = absmax[i / 2^BLOCK_SHIFT] * book[q[i]], i counted over the whole tensor
// PHASE: rows do not start with a block, and word 0 of the absmax plane is where in its block a row
// starts.
// SPLIT: nor do chunks of 32 weights lie within one.
fn decode_init(lane: u32) {
    lookup_init(lane);
}

// Weight k of the row, counted from the start of the row's first block.
fn position(row: u32, k: u32) -> u32 {
    if (PHASE == 0u) {
        return k;
    }
    return k + plane_word(1u, row, 0u);
}

fn absmax(row: u32, block: u32) -> f32 {
    return bitcast<f32>(plane_word(1u, row, PHASE + block));
}

fn scales(row: u32, k: u32) -> vec2<f32> {
    return vec2<f32>(absmax(row, position(row, k) >> BLOCK_SHIFT));
}

// Four weights from `i` on; the first `left` of the chunk have scale d.x, the others d.y.
fn split_quad(q: u32, i: u32, left: u32, d: vec2<f32>) -> vec4<f32> {
    let first = vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(left);
    return select(vec4<f32>(d.y), vec4<f32>(d.x), first) * lookup(q);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let q = nibbles(plane_vec4(0u, row, k >> 5u));
    if (SPLIT == 0u) {
        return lookup32(q, scales(row, k));
    }
    let at = position(row, k);
    let block = at >> BLOCK_SHIFT;
    let left = ((block + 1u) << BLOCK_SHIFT) - at;
    let d = vec2<f32>(absmax(row, block), absmax(row, block + 1u));
    return array<vec4<f32>, 8>(
        split_quad(q[0], 0u, left, d), split_quad(q[1], 4u, left, d), split_quad(q[2], 8u, left, d), split_quad(q[3], 12u, left, d),
        split_quad(q[4], 16u, left, d), split_quad(q[5], 20u, left, d), split_quad(q[6], 24u, left, d), split_quad(q[7], 28u, left, d));
}

fn codes32(row: u32, k: u32) -> Codes {
    return Codes(nibbles(plane_vec4(0u, row, k >> 5u)), scales(row, k), vec2<f32>(0.0));
}
