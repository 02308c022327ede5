// gemm:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup computes a tile of TILE_ROWS by TILE_COLS, 32 of k at a time; a lane holds
//    LANE_ROWS x LANE_COLS of its sums. With 8 x 8 of them, 32 products cost 32 bytes of workgroup
//    memory, which is what an arithmetic unit and the memory beside it do in the same time.
// 2. Every weight is decoded once per tile, by one lane; others fetch activations meanwhile
//    (`fill`).
// 3. Tile rows are 9 vec4 apart, and a lane's rows and columns strided, so that 16-byte reads of
//    neighbouring lanes hit different banks.
// 4. Products go into sums one by one, by fma: a dot product would be added in one more operation.
// Needs: what lib/tile_lanes.wgsl needs.

const PITCH = 9u;
const X_VEC4 = 8u;

var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<vec4<f32>, TILE_COLS * PITCH>;

fn fill_x_vec4(t: Tile, j: u32, chunk: u32) {
    x_tile[(j >> 3u) * PITCH + (j & 7u)] = x_vec4(x_column(t, j >> 3u), chunk * 32u + 4u * (j & 7u));
}

fn fill_w_row(t: Tile, r: u32, chunk: u32) {
    let weights = weights32(w_row(t, r), chunk * 32u);
    for (var j = 0u; j < 8u; j++) {
        w_tile[r * PITCH + j] = weights[j];
    }
}

// s + v . (a, b, c, d)
fn add_products(s: vec4<f32>, v: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let p = fma(vec4<f32>(v.x), vec4<f32>(a.x, b.x, c.x, d.x), s);
    let q = fma(vec4<f32>(v.y), vec4<f32>(a.y, b.y, c.y, d.y), p);
    let r = fma(vec4<f32>(v.z), vec4<f32>(a.z, b.z, c.z, d.z), q);
    return fma(vec4<f32>(v.w), vec4<f32>(a.w, b.w, c.w, d.w), r);
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

    var sums: array<vec4<f32>, LANE_SUMS>;  // [row, column]
    for (var chunk = t.chunk_begin; chunk < t.chunk_end; chunk++) {
        fill(t, lane, chunk);
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            var v: array<vec4<f32>, LANE_COLS>;
            for (var c = 0u; c < LANE_COLS; c++) {
                v[c] = x_tile[(tc + COL_LANES * c) * PITCH + i];
            }
            for (var r = 0u; r < LANE_ROWS; r++) {
                let w = w_tile[(tr + ROW_LANES * r) * PITCH + i];
                for (var c = 0u; c < COL_QUADS; c++) {
                    let at = r * COL_QUADS + c;
                    sums[at] = add_products(sums[at], w, v[4u * c], v[4u * c + 1u], v[4u * c + 2u], v[4u * c + 3u]);
                }
            }
        }
        workgroupBarrier();
    }

    put_sums(t, tr, tc, &sums);
}
