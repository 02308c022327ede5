// The parameters of one dispatch, and the packed weights. Mirrored by `Params` in
// src/kernel/plan.rs; a test compares the two.

struct Params {
    rows: u32,          // rows of this shard of w
    cols: u32,          // k
    batch: u32,         // columns of the batch (or row numbers) in this dispatch
    row_groups: u32,    // workgroups along the rows; the folded grid runs over these first, then over the batch
    groups: u32,        // workgroups that have work; the folded grid may hold more
    chunk_begin: u32,   // chunks of 32 columns that this dispatch sums: begin .. end
    chunk_end: u32,
    accumulate: u32,    // 1: add to y, 0: overwrite
    x_offset: u32,      // element of x where column 0 of this dispatch starts
    x_stride: u32,      // elements from one column of the batch to the next
    y_offset: u32,      // element of y for row 0, column 0
    y_stride: u32,      // elements from one column (dequantize: row) of y to the next
    row_begin: u32,     // dequantize, get_rows: first row of the shard concerned
    split_groups: u32,  // workgroups of one split of k
    split_chunks: u32,  // chunks of one split
    split_stride: u32,  // elements of y from one split to the next
    experts: vec4<u32>,       // first expert of this shard, experts in it, columns of y for one of x, workgroup columns
    plane_offset: vec4<u32>,  // first word of each plane
    plane_stride: vec4<u32>,  // words from one row of the plane to the next
    threshold: f32,           // LLM.int8: where outliers begin, 0 for never
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<u32>;     // the planes of the shard, one after the other
@group(0) @binding(5) var<storage, read> book: array<u32>;  // the codebook of the format, if it has one

// Index of this workgroup in the folded grid.
fn group_index(id: vec3<u32>, grid: vec3<u32>) -> u32 {
    return id.x + id.y * grid.x;
}

// v[i]. No shader indexes a vector by a variable: FXC, DirectX's older compiler, makes a dot
// product of a read, which loses the sign of -0 and makes NaN of the neighbours of what is not
// finite, and refuses a write in a loop. A test enforces it.
fn component(v: vec4<u32>, i: u32) -> u32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

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
