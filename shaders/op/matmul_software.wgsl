// matmul for software adapters:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. One lane is one row, times four: no reduction, no barrier, no workgroup memory (a barrier
//    costs a coroutine switch there).
// 2. A workgroup is one subgroup and handles 4 * SUBGROUP rows by COLS columns; each chunk of
//    weights is decoded once for all columns.
// 3. The activations are shared out by `dot_rows`: the loads are what costs.
// 4. Words that SUPERBLOCK_CHUNKS chunks of a row have in common are loaded once for them, where
//    the decoder says so.
// Needs: SUBGROUP, COLS.

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let id = group_index(group, grid);
    if (!has_tile(id, COLS)) {
        return;
    }
    decode_init(lane);
    let t = tile(id, 4u * SUBGROUP, COLS);
    if (t.col >= t.end) {
        return;
    }
    let r0 = w_row(t, lane);
    let r1 = w_row(t, lane + SUBGROUP);
    let r2 = w_row(t, lane + 2u * SUBGROUP);
    let r3 = w_row(t, lane + 3u * SUBGROUP);

    var sums: array<vec4<f32>, COLS>;
    // Loops with their condition at the end, not at the beginning: a software driver would run
    // their bodies once more for no lane.
    var chunk = t.chunk_begin;
    if (chunk < t.chunk_end) {
        loop {
            let k0 = chunk * 32u;
            let sa = shared_words(r0, k0);
            let sb = shared_words(r1, k0);
            let sc = shared_words(r2, k0);
            let sd = shared_words(r3, k0);
            let end = min((chunk / SUPERBLOCK_CHUNKS + 1u) * SUPERBLOCK_CHUNKS, t.chunk_end);
            loop {
                let k = chunk * 32u;
                let a = row_chunk(sa, r0, k);
                let b = row_chunk(sb, r1, k);
                let c = row_chunk(sc, r2, k);
                let d = row_chunk(sd, r3, k);
                add_chunk(t, a, b, c, d, k, lane, &sums);
                continuing {
                    chunk++;
                    break if chunk >= end;
                }
            }
            continuing {
                break if chunk >= t.chunk_end;
            }
        }
    }

    for (var i = 0u; i < COLS; i++) {
        put(t, lane, i, sums[i].x);
        put(t, lane + SUBGROUP, i, sums[i].y);
        put(t, lane + 2u * SUBGROUP, i, sums[i].z);
        put(t, lane + 3u * SUBGROUP, i, sums[i].w);
    }
}
