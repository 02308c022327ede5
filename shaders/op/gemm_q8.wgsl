// gemm of codes:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k], 32 products at
// a time in integers
//
// 1. Tiles as in `gemm`, but of codes: a quarter of the workgroup memory, four products an
//    instruction.
// 2. A row of the tile is 3 vec4: 8 quads, and scales. Three is odd, so neighbouring lanes hit
//    different banks 16 bytes at a time.
// 3. A sum of products starts at 1.5 * 2^23 as bits: what it is in the end is a number of f32, and
//    taking that start off converts it. Centers of codes come off in integers before: with what a
//    sum starts at, made once for each column.
// Needs: what lib/tile_lanes.wgsl needs, with LANE_COLS = 4.

const PITCH = 3u;
const X_VEC4 = 3u;

// Offsets of their own, beside the center.
const HAS_OFFSETS = !CODES_SIGNED && CODES_CENTER == 0;
const START = 12582912.0;

var<workgroup> w_tile: array<vec4<u32>, TILE_ROWS * PITCH>;  // codes; codes; d, m
var<workgroup> x_tile: array<vec4<u32>, TILE_COLS * PITCH>;  // codes; codes; d, two starts or sums

// Scale and sums of a chunk of activations, as the products want them.
fn scale_and_starts(v: vec4<u32>) -> vec4<u32> {
    let sums = vec2<i32>(bitcast<vec2<i32>>(v.yz));
    if (HAS_OFFSETS) {
        let s = bitcast<vec2<u32>>(vec2<f32>(sums));
        return vec4<u32>(v.x, s.x, s.y, 0u);
    }
    let starts = bitcast<vec2<u32>>(vec2<i32>(bitcast<i32>(START)) - CODES_CENTER * sums);
    return vec4<u32>(v.x, select(starts, bitcast<vec2<u32>>(vec2<f32>(START)), vec2<bool>(CODES_SIGNED)), 0u);
}

fn fill_x_vec4(t: Tile, j: u32, chunk: u32) {
    let col = j % TILE_COLS;
    let part = j / TILE_COLS;
    let v = x_part(x_start(x_column(t, col)), chunk, part);
    x_tile[col * PITCH + part] = select(v, scale_and_starts(v), part == 2u);
}

fn fill_w_row(t: Tile, r: u32, chunk: u32) {
    let c = byte_codes(w_row(t, r), chunk * 32u);
    w_tile[r * PITCH] = vec4<u32>(c.q[0], c.q[1], c.q[2], c.q[3]);
    w_tile[r * PITCH + 1u] = vec4<u32>(c.q[4], c.q[5], c.q[6], c.q[7]);
    w_tile[r * PITCH + 2u] = bitcast<vec4<u32>>(vec4<f32>(c.d, c.m));
}

struct Row {
    lo: vec4<u32>,
    hi: vec4<u32>,
    s: vec4<u32>,
}

fn w_codes(row: u32) -> Row {
    return Row(w_tile[row * PITCH], w_tile[row * PITCH + 1u], w_tile[row * PITCH + 2u]);
}

fn tile_codes(col: u32) -> Row {
    return Row(x_tile[col * PITCH], x_tile[col * PITCH + 1u], x_tile[col * PITCH + 2u]);
}

// 16 products, added to `start` as bits, as a number. They are below 2^22.
fn dot_16(a: vec4<u32>, b: vec4<u32>, start: u32) -> f32 {
    let sum = bitcast<i32>(start) + dot_bytes(a.x, b.x) + dot_bytes(a.y, b.y) + dot_bytes(a.z, b.z) + dot_bytes(a.w, b.w);
    return bitcast<f32>(sum) - START;
}

// s + w . x for 32 weights.
fn add_products(s: f32, w: Row, v: Row) -> f32 {
    let d = bitcast<vec2<f32>>(w.s.xy);
    if (HAS_OFFSETS) {
        let m = bitcast<vec2<f32>>(w.s.zw);
        let sums = bitcast<vec2<f32>>(v.s.yz);
        let start = bitcast<u32>(START);
        let offsets = fma(m.y, sums.y, m.x * sums.x);
        return fma(bitcast<f32>(v.s.x), fma(d.x, dot_16(w.lo, v.lo, start), fma(d.y, dot_16(w.hi, v.hi, start), offsets)), s);
    }
    return fma(bitcast<f32>(v.s.x), fma(d.x, dot_16(w.lo, v.lo, v.s.y), d.y * dot_16(w.hi, v.hi, v.s.z)), s);
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
        let x0 = tile_codes(tc);
        let x1 = tile_codes(tc + COL_LANES);
        let x2 = tile_codes(tc + 2u * COL_LANES);
        let x3 = tile_codes(tc + 3u * COL_LANES);
        for (var r = 0u; r < LANE_ROWS; r++) {
            let w = w_codes(tr + ROW_LANES * r);
            let s = sums[r];
            sums[r] = vec4<f32>(add_products(s.x, w, x0), add_products(s.y, w, x1), add_products(s.z, w, x2), add_products(s.w, w, x3));
        }
        workgroupBarrier();
    }

    put_sums(t, tr, tc, &sums);
}
