// gemm:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup of 128 computes a tile of 64 rows by 32 columns, 32 of k at a time; a lane holds 4 x 4 of its sums.
// 2. Lanes 0..63 decode one row of the tile each, lanes 64..127 fetch the activations: every weight is decoded once per tile.
// 3. Tile rows are 9 vec4 apart, and a lane's rows 16 apart, so that 16-byte reads of neighbouring lanes hit different banks.
// Needs: nothing but the decoder; 13.5 KiB of workgroup memory.

@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [batch, m]

const TILE_ROWS = 64u;
const TILE_COLS = 32u;
const PITCH = 9u;

var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<vec4<f32>, TILE_COLS * PITCH>;

fn fill_weights(row: u32, lane: u32, k: u32) {
    let weights = decode32(min(row + lane, params.rows - 1u), k);
    for (var i = 0u; i < 8u; i++) {
        w_tile[lane * PITCH + i] = weights[i];
    }
}

fn fill_activations(col: u32, lane: u32, k: u32) {
    for (var j = lane; j < TILE_COLS * 8u; j += 64u) {
        let c = j >> 3u;
        let i = j & 7u;
        x_tile[c * PITCH + i] = x_vec4(min(col + c, params.batch - 1u), k + 4u * i);
    }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let id = group_index(group, grid);
    if (id >= params.groups) {
        return;
    }
    decode_init(lane);
    let row = (id % params.row_groups) * TILE_ROWS;
    let col = (id / params.row_groups) * TILE_COLS;
    let tr = lane & 15u;  // rows tr, tr + 16, tr + 32, tr + 48
    let tc = lane >> 4u;  // columns tc, tc + 8, tc + 16, tc + 24

    var sums: array<vec4<f32>, 4>;  // [row, column]
    for (var chunk = params.chunk_begin; chunk < params.chunk_end; chunk++) {
        let k = chunk * 32u;
        if (lane < 64u) {
            fill_weights(row, lane, k);
        } else {
            fill_activations(col, lane - 64u, k);
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let x0 = x_tile[tc * PITCH + i];
            let x1 = x_tile[(tc + 8u) * PITCH + i];
            let x2 = x_tile[(tc + 16u) * PITCH + i];
            let x3 = x_tile[(tc + 24u) * PITCH + i];
            for (var r = 0u; r < 4u; r++) {
                let v = w_tile[(tr + 16u * r) * PITCH + i];
                sums[r] += vec4<f32>(dot(v, x0), dot(v, x1), dot(v, x2), dot(v, x3));
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            let at_row = row + tr + 16u * r;
            let at_col = col + tc + 8u * c;
            if (at_row < params.rows && at_col < params.batch) {
                let at = params.y_offset + at_col * params.y_stride + at_row;
                y[at] = sums[r][c] + select(0.0, y[at], params.accumulate == 1u);
            }
        }
    }
}
