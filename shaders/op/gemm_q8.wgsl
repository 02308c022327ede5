// gemm of codes:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k], 32 products at
// a time in integers
//
// 1. Tiles as in `gemm`, but of codes: a quarter of the workgroup memory, four products an
//    instruction.
// 2. A row of the tile is 8 quads and 4 words of scales, 13 words apart: an odd number, so
//    neighbouring lanes hit different banks.
// Needs: TILE_ROWS, TILE_COLS, LANE_ROWS, WORKGROUP = TILE_ROWS / LANE_ROWS * TILE_COLS / 4.

const PITCH = 13u;
const ROW_LANES = TILE_ROWS / LANE_ROWS;
const COL_LANES = TILE_COLS / 4u;

var<workgroup> w_tile: array<u32, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<u32, TILE_COLS * PITCH>;

fn fill(t: Tile, lane: u32, k: u32) {
    for (var r = lane; r < TILE_ROWS; r += WORKGROUP) {
        let c = byte_codes(w_row(t, r), k);
        for (var i = 0u; i < 8u; i++) {
            w_tile[r * PITCH + i] = c.q[i];
        }
        w_tile[r * PITCH + 8u] = bitcast<u32>(c.d.x);
        w_tile[r * PITCH + 9u] = bitcast<u32>(c.d.y);
        w_tile[r * PITCH + 10u] = bitcast<u32>(c.m.x);
        w_tile[r * PITCH + 11u] = bitcast<u32>(c.m.y);
    }
    // From the last lane on, as the first ones decode.
    for (var j = WORKGROUP - 1u - lane; j < TILE_COLS * 3u; j += WORKGROUP) {
        let col = j / 3u;
        let part = j % 3u;
        let v = x[(params.x_offset + x_column(t, col) * params.x_stride) / 4u + (k >> 5u) * 3u + part];
        let at = col * PITCH + 4u * part;
        x_tile[at] = v.x;
        x_tile[at + 1u] = v.y;
        x_tile[at + 2u] = v.z;
        x_tile[at + 3u] = v.w;
    }
}

fn w_codes(row: u32) -> Codes {
    let at = row * PITCH;
    var q: array<u32, 8>;
    for (var i = 0u; i < 8u; i++) {
        q[i] = w_tile[at + i];
    }
    let d = bitcast<vec2<f32>>(vec2<u32>(w_tile[at + 8u], w_tile[at + 9u]));
    return Codes(q, d, bitcast<vec2<f32>>(vec2<u32>(w_tile[at + 10u], w_tile[at + 11u])));
}

fn tile_codes(col: u32) -> XCodes {
    let at = col * PITCH;
    let lo = vec4<u32>(x_tile[at], x_tile[at + 1u], x_tile[at + 2u], x_tile[at + 3u]);
    let hi = vec4<u32>(x_tile[at + 4u], x_tile[at + 5u], x_tile[at + 6u], x_tile[at + 7u]);
    let sums = bitcast<vec2<i32>>(vec2<u32>(x_tile[at + 9u], x_tile[at + 10u]));
    return XCodes(lo, hi, bitcast<f32>(x_tile[at + 8u]), vec2<f32>(sums));
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
    let tr = lane % ROW_LANES;
    let tc = lane / ROW_LANES;

    var sums: array<vec4<f32>, LANE_ROWS>;  // [row, column]
    for (var chunk = t.chunk_begin; chunk < t.chunk_end; chunk++) {
        fill(t, lane, chunk * 32u);
        workgroupBarrier();
        let x0 = tile_codes(tc);
        let x1 = tile_codes(tc + COL_LANES);
        let x2 = tile_codes(tc + 2u * COL_LANES);
        let x3 = tile_codes(tc + 3u * COL_LANES);
        for (var r = 0u; r < LANE_ROWS; r++) {
            let v = w_codes(tr + ROW_LANES * r);
            sums[r] += vec4<f32>(dot_codes(v, x0), dot_codes(v, x1), dot_codes(v, x2), dot_codes(v, x3));
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
