// gemm by cooperative matrices:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup computes a tile of 4 EDGE by 4 EDGE, 32 of k at a time; four subgroups a quarter
//    each, as 2 by 2 matrices of EDGE by EDGE with f32 sums. Where subgroups are smaller than they
//    might be, there are more than four, and those compute the same again.
// 2. Weights and activations are f16 in workgroup memory, a power of two taken out of each row and
//    column. Rows are 40 halves apart: 16-byte aligned, and on different banks.
// 3. The sums go through workgroup memory, as only there a row that does not exist may be written.
// Needs: EDGE, WORKGROUP = four times the largest subgroup.

const TILE = 4u * EDGE;
const PITCH = 40u;

@group(0) @binding(7) var<storage, read> row_scales: array<f32>;  // [rows]

var<workgroup> w_tile: array<f16, TILE * PITCH>;
var<workgroup> x_tile: array<f16, TILE * PITCH>;
var<workgroup> y_tile: array<f32, TILE * TILE>;  // [column, row]

fn fill(t: Tile, lane: u32, k: u32) {
    for (var r = lane; r < TILE; r += WORKGROUP) {
        let row = w_row(t, r);
        let inverse = bitcast<f32>((254u << 23u) - bitcast<u32>(row_scales[row]));
        let weights = weights32(row, k);
        for (var i = 0u; i < 8u; i++) {
            let v = vec4<f16>(weights[i] * inverse);
            let at = r * PITCH + 4u * i;
            w_tile[at] = v.x;
            w_tile[at + 1u] = v.y;
            w_tile[at + 2u] = v.z;
            w_tile[at + 3u] = v.w;
        }
    }
    for (var j = WORKGROUP - 1u - lane; j < TILE * 8u; j += WORKGROUP) {
        let v = vec4<f16>(x_vec4(x_column(t, j >> 3u), k + 4u * (j & 7u)));
        let at = (j >> 3u) * PITCH + 4u * (j & 7u);
        x_tile[at] = v.x;
        x_tile[at + 1u] = v.y;
        x_tile[at + 2u] = v.z;
        x_tile[at + 3u] = v.w;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32) {
    let id = group_index(group, grid);
    decode_init(lane);
    // No early return: cooperative operations must be in uniform control flow. A workgroup without
    // work sums nothing.
    let there = has_tile(id, TILE);
    var t = tile(select(0u, id, there), TILE, TILE);
    if (!there || t.col >= t.end) {
        t.chunk_end = t.chunk_begin;
        t.end = t.col;
    }
    let row = (subgroup & 1u) * 2u * EDGE;
    let col = ((subgroup >> 1u) & 1u) * 2u * EDGE;

    var c00: Sums;
    var c01: Sums;
    var c10: Sums;
    var c11: Sums;
    for (var chunk = t.chunk_begin; chunk < t.chunk_end; chunk++) {
        fill(t, lane, chunk * 32u);
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += EDGE) {
            let a0 = coopLoadT<Rows>(&w_tile[row * PITCH + k], PITCH);
            let a1 = coopLoadT<Rows>(&w_tile[(row + EDGE) * PITCH + k], PITCH);
            let b0 = coopLoad<Cols>(&x_tile[col * PITCH + k], PITCH);
            let b1 = coopLoad<Cols>(&x_tile[(col + EDGE) * PITCH + k], PITCH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        workgroupBarrier();
    }
    coopStore(c00, &y_tile[col * TILE + row], TILE);
    coopStore(c10, &y_tile[col * TILE + row + EDGE], TILE);
    coopStore(c01, &y_tile[(col + EDGE) * TILE + row], TILE);
    coopStore(c11, &y_tile[(col + EDGE) * TILE + row + EDGE], TILE);
    workgroupBarrier();
    for (var i = lane; i < TILE * TILE; i += WORKGROUP) {
        let r = i % TILE;
        put_scaled(t, r, i / TILE, y_tile[i], row_scales[w_row(t, r)]);
    }
}
