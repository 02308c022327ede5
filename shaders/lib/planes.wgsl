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

// Where 16 bytes of a row of a plane lie, number `i`, counted in 16 bytes. In planes of INTERLEAVED
// those of four rows, TILE_LANES apart, lie together: one lane takes these rows, and a processor
// follows few streams of memory at a time.
fn plane_16_bytes(plane: u32, row: u32, i: u32) -> u32 {
    if (((INTERLEAVED >> plane) & 1u) == 0u) {
        return ((plane_offset(plane) + row * plane_stride(plane)) >> 2u) + i;
    }
    let lanes = max(TILE_LANES, 1u);
    let first = 4u * (row / (4u * lanes) * lanes + row % lanes);
    return ((plane_offset(plane) + first * plane_stride(plane)) >> 2u) + 4u * i + row / lanes % 4u;
}

// Word `i` of a row of a plane.
fn plane_word(plane: u32, row: u32, i: u32) -> u32 {
    if (((INTERLEAVED >> plane) & 1u) == 1u) {
        return w[4u * plane_16_bytes(plane, row, i >> 2u) + (i & 3u)];
    }
    return w[plane_offset(plane) + row * plane_stride(plane) + i];
}

// Number `i` of a row of a plane of f16 pairs.
fn plane_f16(plane: u32, row: u32, i: u32) -> f32 {
    return unpack2x16float(plane_word(plane, row, i >> 1u) >> ((i & 1u) * 16u)).x;
}

// Sixteen bits, number `i` of a row of a plane.
fn plane_u16(plane: u32, row: u32, i: u32) -> u32 {
    return (plane_word(plane, row, i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu;
}
