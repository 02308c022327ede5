// NF4 and FP4: codes of four bits into a codebook of sixteen values; planes qs (4 words for 32
// weights), absmax (f32 a block).
// w[i] = absmax[i / 2^BLOCK_SHIFT] * book[q[i]], i counted over the whole tensor
// PHASE: rows do not start with a block, and word 0 of the absmax plane is where in its block a row
// starts.
// SPLIT: nor do chunks of 32 weights lie within one, and there are no codes.
fn decode_init(lane: u32) {
    lookup_init(lane);
}

const TWO_SCALES = false;

// Weight k of the row, counted from the start of the row's first block.
fn position(p: Place, k: u32) -> u32 {
    if (PHASE == 0u) {
        return k;
    }
    return k + word_at(p, 1u, 0u);
}

struct Raw {
    qs: vec4<u32>,
    absmax: u32,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    return Raw(vec4_at(p, 0u, chunk), word_at(p, 1u, PHASE + (position(p, 32u * chunk) >> BLOCK_SHIFT)));
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    return nibble_quad(r.qs, i);
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    return nibble_values(r.qs, i);
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(r.absmax), 0.0);
}

// Four weights from `i` on; the first `left` of the chunk have scale d.x, the others d.y.
fn split_quad(r: Raw, i: u32, left: u32, d: vec2<f32>) -> vec4<f32> {
    let first = vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4<u32>(left);
    return select(vec4<f32>(d.y), vec4<f32>(d.x), first) * lookup(raw_quad(r, i));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let p = place(row);
    let r = raw32(p, k >> 5u);
    if (SPLIT == 0u) {
        return weights_of(r, k >> 5u);
    }
    let at = position(p, k);
    let block = at >> BLOCK_SHIFT;
    let left = ((block + 1u) << BLOCK_SHIFT) - at;
    let d = bitcast<vec2<f32>>(vec2<u32>(r.absmax, word_at(p, 1u, PHASE + block + 1u)));
    return array<vec4<f32>, 8>(
        split_quad(r, 0u, left, d), split_quad(r, 1u, left, d), split_quad(r, 2u, left, d), split_quad(r, 3u, left, d),
        split_quad(r, 4u, left, d), split_quad(r, 5u, left, d), split_quad(r, 6u, left, d), split_quad(r, 7u, left, d));
}
