// Activations by way of workgroup memory: lanes fetch neighbouring words there, and each takes its
// 32 out again, 9 vec4 apart so that neighbours hit different banks. Taken directly they lie 128
// bytes apart, and each load of a subgroup touches as many cache lines as it has lanes.
// Needs: WORKGROUP, COLS.

const PITCH = 9u;

var<workgroup> x_tile: array<vec4<f32>, COLS * WORKGROUP * PITCH>;

// Fetches the chunks of all lanes, the first of which begins at k.
fn x_stage(t: Tile, k: u32, lane: u32) {
    workgroupBarrier();
    for (var i = 0u; i < COLS; i++) {
        let col = x_column(t, i);
        for (var j = lane; j < WORKGROUP * 8u; j += WORKGROUP) {
            x_tile[(i * WORKGROUP + (j >> 3u)) * PITCH + (j & 7u)] = x_vec4(col, min(k + 4u * j, 32u * params.chunk_end - 4u));
        }
    }
    workgroupBarrier();
}

fn x_chunk(t: Tile, i: u32, k: u32, lane: u32) -> X {
    let at = (i * WORKGROUP + lane) * PITCH;
    return X(array<vec4<f32>, 8>(
        x_tile[at], x_tile[at + 1u], x_tile[at + 2u], x_tile[at + 3u],
        x_tile[at + 4u], x_tile[at + 5u], x_tile[at + 6u], x_tile[at + 7u]));
}
