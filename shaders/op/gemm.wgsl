// gemm:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup computes a tile of TILE_ROWS by TILE_COLS, 32 of k at a time; a lane holds
//    LANE_ROWS x 4 of its sums.
// 2. Every weight is decoded once per tile, by one lane; the other lanes fetch activations
//    meanwhile.
// 3. Tile rows are 9 vec4 apart, and a lane's rows and columns strided, so that 16-byte reads of
//    neighbouring lanes hit different banks.
// Needs: TILE_ROWS, TILE_COLS, LANE_ROWS, WORKGROUP = TILE_ROWS / LANE_ROWS * TILE_COLS / 4.

const PITCH = 9u;
const ROW_LANES = TILE_ROWS / LANE_ROWS;
const COL_LANES = TILE_COLS / 4u;

var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<vec4<f32>, TILE_COLS * PITCH>;

fn fill(t: Tile, lane: u32, k: u32) {
    for (var r = lane; r < TILE_ROWS; r += WORKGROUP) {
        let weights = weights32(w_row(t, r), k);
        for (var i = 0u; i < 8u; i++) {
            w_tile[r * PITCH + i] = weights[i];
        }
    }
    // From the last lane on, as the first ones decode.
    for (var j = WORKGROUP - 1u - lane; j < TILE_COLS * 8u; j += WORKGROUP) {
        x_tile[(j >> 3u) * PITCH + (j & 7u)] = x_vec4(x_column(t, j >> 3u), k + 4u * (j & 7u));
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let id = group_index(group, grid);
    if (!has_tile(id, TILE_COLS)) {
        return;
    }
    decode_init(lane);
    let t = tile(id, TILE_ROWS, TILE_COLS);
    if (t.col >= t.end) {
        return;
    }
    let tr = lane % ROW_LANES;  // rows tr, tr + ROW_LANES, ...
    let tc = lane / ROW_LANES;  // columns tc, tc + COL_LANES, ...

    var sums: array<vec4<f32>, LANE_ROWS>;  // [row, column]
    for (var chunk = t.chunk_begin; chunk < t.chunk_end; chunk++) {
        fill(t, lane, chunk * 32u);
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let x0 = x_tile[tc * PITCH + i];
            let x1 = x_tile[(tc + COL_LANES) * PITCH + i];
            let x2 = x_tile[(tc + 2u * COL_LANES) * PITCH + i];
            let x3 = x_tile[(tc + 3u * COL_LANES) * PITCH + i];
            for (var r = 0u; r < LANE_ROWS; r++) {
                let v = w_tile[(tr + ROW_LANES * r) * PITCH + i];
                sums[r] += vec4<f32>(dot(v, x0), dot(v, x1), dot(v, x2), dot(v, x3));
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = tr + ROW_LANES * r;
        put(t, row, tc, sums[r].x);
        put(t, row, tc + COL_LANES, sums[r].y);
        put(t, row, tc + 2u * COL_LANES, sums[r].z);
        put(t, row, tc + 3u * COL_LANES, sums[r].w);
    }
}
