// gemm:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup computes a tile of TILE_ROWS by TILE_COLS, 32 of k at a time; a lane holds
//    LANE_ROWS x LANE_COLS of its sums. With 8 x 8 of them, 32 products cost 32 bytes of workgroup
//    memory, which is what an arithmetic unit and the memory beside it do in the same time.
// 2. Every weight is decoded once per tile, by one lane. Where there are twice as many lanes as
//    rows, one half of them decodes and the other fetches activations.
// 3. Tile rows are 9 vec4 apart, and a lane's rows and columns strided, so that 16-byte reads of
//    neighbouring lanes hit different banks.
// 4. Products go into sums one by one, by fma: a dot product would be added in one more operation.
// Needs: TILE_ROWS, TILE_COLS, LANE_ROWS, LANE_COLS, WORKGROUP = TILE_ROWS / LANE_ROWS * TILE_COLS
// / LANE_COLS.

const PITCH = 9u;
const ROW_LANES = TILE_ROWS / LANE_ROWS;
const COL_LANES = TILE_COLS / LANE_COLS;
const COL_QUADS = LANE_COLS / 4u;
const LANE_SUMS = LANE_ROWS * COL_QUADS;  // vec4 of them, at most 16
// Lanes that fetch activations, and how many rows and vec4 of activations a lane fills.
const FETCHING = select(WORKGROUP, WORKGROUP - min(TILE_ROWS, WORKGROUP - 1u), WORKGROUP >= 2u * TILE_ROWS);
const W_OF_LANE = (TILE_ROWS + WORKGROUP - 1u) / WORKGROUP;
const X_OF_LANE = (TILE_COLS * 8u + FETCHING - 1u) / FETCHING;

var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<vec4<f32>, TILE_COLS * PITCH>;

fn fill_x(t: Tile, first: u32, k: u32) {
    for (var i = 0u; i < X_OF_LANE; i++) {
        let j = first + i * FETCHING;
        if (TILE_COLS * 8u % FETCHING == 0u || j < TILE_COLS * 8u) {
            x_tile[(j >> 3u) * PITCH + (j & 7u)] = x_vec4(x_column(t, j >> 3u), k + 4u * (j & 7u));
        }
    }
}

fn fill_w(t: Tile, lane: u32, k: u32) {
    for (var i = 0u; i < W_OF_LANE; i++) {
        let r = lane + i * WORKGROUP;
        if (TILE_ROWS % WORKGROUP == 0u || r < TILE_ROWS) {
            let weights = weights32(w_row(t, r), k);
            for (var j = 0u; j < 8u; j++) {
                w_tile[r * PITCH + j] = weights[j];
            }
        }
    }
}

fn fill(t: Tile, lane: u32, k: u32) {
    if (WORKGROUP >= 2u * TILE_ROWS && lane >= TILE_ROWS) {
        fill_x(t, lane - TILE_ROWS, k);
    } else {
        fill_w(t, lane, k);
        if (WORKGROUP < 2u * TILE_ROWS) {
            // From the last lane on, as the first ones decode.
            fill_x(t, WORKGROUP - 1u - lane, k);
        }
    }
}

// s + v . (a, b, c, d)
fn add_products(s: vec4<f32>, v: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let p = fma(vec4<f32>(v.x), vec4<f32>(a.x, b.x, c.x, d.x), s);
    let q = fma(vec4<f32>(v.y), vec4<f32>(a.y, b.y, c.y, d.y), p);
    let r = fma(vec4<f32>(v.z), vec4<f32>(a.z, b.z, c.z, d.z), q);
    return fma(vec4<f32>(v.w), vec4<f32>(a.w, b.w, c.w, d.w), r);
}

// Four sums of a row, by constants: an array that is indexed by a variable would lie in memory all
// the time.
fn sums_of_row(sums: ptr<function, array<vec4<f32>, LANE_SUMS>>, r: u32, c: u32) -> vec4<f32> {
    var s: vec4<f32>;
    if (COL_QUADS == 2u && c == 1u) {
        s = (*sums)[1u % LANE_SUMS];
        switch r {
            case 1u: { s = (*sums)[3u % LANE_SUMS]; }
            case 2u: { s = (*sums)[5u % LANE_SUMS]; }
            case 3u: { s = (*sums)[7u % LANE_SUMS]; }
            case 4u: { s = (*sums)[9u % LANE_SUMS]; }
            case 5u: { s = (*sums)[11u % LANE_SUMS]; }
            case 6u: { s = (*sums)[13u % LANE_SUMS]; }
            case 7u: { s = (*sums)[15u % LANE_SUMS]; }
            default: {}
        }
    } else {
        s = (*sums)[0];
        switch r {
            case 1u: { s = (*sums)[1u * COL_QUADS % LANE_SUMS]; }
            case 2u: { s = (*sums)[2u * COL_QUADS % LANE_SUMS]; }
            case 3u: { s = (*sums)[3u * COL_QUADS % LANE_SUMS]; }
            case 4u: { s = (*sums)[4u * COL_QUADS % LANE_SUMS]; }
            case 5u: { s = (*sums)[5u * COL_QUADS % LANE_SUMS]; }
            case 6u: { s = (*sums)[6u * COL_QUADS % LANE_SUMS]; }
            case 7u: { s = (*sums)[7u * COL_QUADS % LANE_SUMS]; }
            default: {}
        }
    }
    return s;
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
        fill(t, lane, chunk * 32u);
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

    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = tr + ROW_LANES * r;
        for (var c = 0u; c < COL_QUADS; c++) {
            let s = sums_of_row(&sums, r, c);
            let col = tc + 4u * COL_LANES * c;
            put(t, row, col, s.x);
            put(t, row, col + COL_LANES, s.y);
            put(t, row, col + 2u * COL_LANES, s.z);
            put(t, row, col + 3u * COL_LANES, s.w);
        }
    }
}
