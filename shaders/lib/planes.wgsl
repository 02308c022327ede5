// The packed weights: planes of a shard. The parameters of a kernel that decodes say where they
// lie: plane_offset, the first word of each, and plane_stride, words from one row to the next.

@group(0) @binding(1) var<storage, read> w: array<u32>;  // the planes of the shard, one after the other

// Planes are constants at every call, so these are one load each.
fn plane_offset(plane: u32) -> u32 {
    return component(params.plane_offset, plane);
}

fn plane_stride(plane: u32) -> u32 {
    return component(params.plane_stride, plane);
}

// Where a row lies: the first word of it in each plane, and the same counted in 16 bytes. Kernels
// work it out before their loops; what a decoder does not ask for is not computed.
struct Place {
    words: vec4<u32>,
    quads: vec4<u32>,
    row: u32,
}

fn place(row: u32) -> Place {
    let words = vec4<u32>(row_start(0u, row), row_start(1u, row), row_start(2u, row), row_start(3u, row));
    return Place(words, words >> vec4<u32>(2u), row);
}

// True if 16 bytes of four rows, TILE_LANES apart, lie side by side in a plane: one lane takes
// these rows, and a processor follows few streams of memory at a time.
fn is_interleaved(plane: u32) -> bool {
    return ((INTERLEAVED >> plane) & 1u) == 1u;
}

// The first word of a row in a plane.
fn row_start(plane: u32, row: u32) -> u32 {
    if (!is_interleaved(plane)) {
        return plane_offset(plane) + row * plane_stride(plane);
    }
    let lanes = max(TILE_LANES, 1u);
    let first = 4u * (row / (4u * lanes) * lanes + row % lanes);
    return plane_offset(plane) + first * plane_stride(plane) + 4u * (row / lanes % 4u);
}

// Where 16 bytes of a plane lie, number `i` of the row, counted in 16 bytes.
fn at_16_bytes(p: Place, plane: u32, i: u32) -> u32 {
    return component(p.quads, plane) + select(i, 4u * i, is_interleaved(plane));
}

// Word `i` of a plane.
fn word_at(p: Place, plane: u32, i: u32) -> u32 {
    return w[component(p.words, plane) + select(i, 16u * (i >> 2u) + (i & 3u), is_interleaved(plane))];
}

// Sixteen bits of a word, the upper ones for an odd `i`.
fn u16_of(word: u32, i: u32) -> u32 {
    return select(word & 0xffffu, word >> 16u, (i & 1u) == 1u);
}

// The same as f16.
fn f16_of(word: u32, i: u32) -> f32 {
    return unpack2x16float(word >> ((i & 1u) * 16u)).x;
}

// Byte `i % 4` of a word.
fn byte_of(word: u32, i: u32) -> u32 {
    return (word >> ((i & 3u) * 8u)) & 255u;
}

// Word `i` of a row of a plane.
fn plane_word(plane: u32, row: u32, i: u32) -> u32 {
    return word_at(place(row), plane, i);
}

// Number `i` of a row of a plane of f16 pairs.
fn plane_f16(plane: u32, row: u32, i: u32) -> f32 {
    return f16_of(plane_word(plane, row, i >> 1u), i);
}

// Four words of a row of a plane, starting at word 4 i.
fn plane_vec4(plane: u32, row: u32, i: u32) -> vec4<u32> {
    return vec4_at(place(row), plane, i);
}
