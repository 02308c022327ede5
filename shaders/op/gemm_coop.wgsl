// gemm by cooperative matrices:   for row, col: y[col, row] = sum over k of w[row, k] * x[col, k]
//
// 1. A workgroup computes a tile of TILE_ROWS by TILE_COLS, 32 of k at a time; four subgroups a
//    quarter each, as ROW_MATRICES by COL_MATRICES matrices of EDGE by EDGE with f32 sums: with 4
//    by 4, one load from workgroup memory serves four products. Where subgroups are smaller than
//    they might be, there are more than four, and those compute the same again.
// 2. Weights and activations are f16 in workgroup memory, a power of two taken out of each row and
//    column. All lanes decode: PARTS of them share a row. Activations are halves already and only
//    moved, 16 bytes a lane, neighbours beside each other. Rows are 40 halves apart: 16-byte
//    aligned, and on different banks.
// 3. AHEAD: the loads of the next chunk are issued before the products of this one. Large tiles
//    want it, of which a core holds one or two workgroups; with small ones others work meanwhile.
// 4. The sums go through workgroup memory, as only there a row that does not exist may be written,
//    a matrix of each subgroup at a time.
// Needs: EDGE, TILE_ROWS, TILE_COLS, PARTS, AHEAD, WORKGROUP = four times the largest subgroup.

const PITCH = 40u;
const QUADS_OF_PART = 8u / PARTS;
const ROW_MATRICES = TILE_ROWS / (2u * EDGE);
const COL_MATRICES = TILE_COLS / (2u * EDGE);
const MATRICES = ROW_MATRICES * COL_MATRICES;  // at most 16
// Parts of rows, and quarters of columns, that a lane fills. Where there are fewer than lanes, the
// last lanes fill none.
const W_OF_LANE = (TILE_ROWS * PARTS + WORKGROUP - 1u) / WORKGROUP;
const X_OF_LANE = (TILE_COLS * 4u + WORKGROUP - 1u) / WORKGROUP;

@group(0) @binding(7) var<storage, read> row_scales: array<f32>;  // [rows]

var<workgroup> w_tile: array<f16, TILE_ROWS * PITCH>;
var<workgroup> x_tile: array<f16, TILE_COLS * PITCH>;
var<workgroup> y_tile: array<f32, 4u * EDGE * EDGE>;  // [subgroup, column, row]

// What lane fills, and what it has fetched.
struct Filling {
    rows: array<u32, W_OF_LANE>,
    factors: array<f32, W_OF_LANE>,
    columns: array<u32, X_OF_LANE>,
    w: array<Fetched, W_OF_LANE>,
    x: array<vec4<f16>, 2u * X_OF_LANE>,
}

fn filling(t: Tile, lane: u32) -> Filling {
    var f: Filling;
    for (var i = 0u; i < W_OF_LANE; i++) {
        f.rows[i] = w_row(t, (lane + i * WORKGROUP) / PARTS);
        f.factors[i] = bitcast<f32>((254u << 23u) - bitcast<u32>(row_scales[f.rows[i]]));
    }
    for (var i = 0u; i < X_OF_LANE; i++) {
        f.columns[i] = x_place(x_column(t, (lane + i * WORKGROUP) / 4u)) + 2u * (lane % 4u);
    }
    return f;
}

fn fetch_chunk(f: ptr<function, Filling>, chunk: u32) {
    for (var i = 0u; i < W_OF_LANE; i++) {
        (*f).w[i] = fetch((*f).rows[i], chunk * 32u);
    }
    for (var i = 0u; i < X_OF_LANE; i++) {
        (*f).x[2u * i] = x[(*f).columns[i] + chunk * 8u];
        (*f).x[2u * i + 1u] = x[(*f).columns[i] + chunk * 8u + 1u];
    }
}

fn fill(f: ptr<function, Filling>, lane: u32) {
    for (var i = 0u; i < W_OF_LANE; i++) {
        let j = lane + i * WORKGROUP;
        if (TILE_ROWS * PARTS >= WORKGROUP || j < TILE_ROWS * PARTS) {
            for (var q = 0u; q < QUADS_OF_PART; q += 2u) {
                let v = halves_of_part((*f).w[i], j % PARTS, q, (*f).factors[i]);
                let at = (j / PARTS) * PITCH + 4u * ((j % PARTS) * QUADS_OF_PART + q);
                w_tile[at] = v[0].x;
                w_tile[at + 1u] = v[0].y;
                w_tile[at + 2u] = v[0].z;
                w_tile[at + 3u] = v[0].w;
                w_tile[at + 4u] = v[1].x;
                w_tile[at + 5u] = v[1].y;
                w_tile[at + 6u] = v[1].z;
                w_tile[at + 7u] = v[1].w;
            }
        }
    }
    for (var i = 0u; i < X_OF_LANE; i++) {
        let j = lane + i * WORKGROUP;
        if (TILE_COLS * 4u >= WORKGROUP || j < TILE_COLS * 4u) {
            let a = (*f).x[2u * i];
            let b = (*f).x[2u * i + 1u];
            let at = (j / 4u) * PITCH + 8u * (j % 4u);
            x_tile[at] = a.x;
            x_tile[at + 1u] = a.y;
            x_tile[at + 2u] = a.z;
            x_tile[at + 3u] = a.w;
            x_tile[at + 4u] = b.x;
            x_tile[at + 5u] = b.y;
            x_tile[at + 6u] = b.z;
            x_tile[at + 7u] = b.w;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32) {
    let id = group_index(group, grid);
    decode_init(lane);
    // No early return: cooperative operations must be in uniform control flow. A workgroup without
    // work sums nothing.
    let there = has_tile(id, TILE_COLS);
    var t = tile(select(0u, id, there), TILE_ROWS, TILE_COLS);
    if (!there || t.col >= t.end) {
        t.chunk_end = t.chunk_begin;
        t.end = t.col;
    }
    let row = (subgroup & 1u) * ROW_MATRICES * EDGE;
    let col = ((subgroup >> 1u) & 1u) * COL_MATRICES * EDGE;

    var sums: array<Sums, MATRICES>;
    var f = filling(t, lane);
    if (AHEAD == 1u && t.chunk_begin < t.chunk_end) {
        fetch_chunk(&f, t.chunk_begin);
    }
    for (var chunk = t.chunk_begin; chunk < t.chunk_end; chunk++) {
        if (AHEAD == 0u) {
            fetch_chunk(&f, chunk);
        }
        fill(&f, lane);
        workgroupBarrier();
        if (AHEAD == 1u) {
            fetch_chunk(&f, min(chunk + 1u, t.chunk_end - 1u));
        }
        for (var k = 0u; k < 32u; k += EDGE) {
            var a: array<Rows, ROW_MATRICES>;
            for (var i = 0u; i < ROW_MATRICES; i++) {
                a[i] = coopLoadT<Rows>(&w_tile[(row + i * EDGE) * PITCH + k], PITCH);
            }
            for (var j = 0u; j < COL_MATRICES; j++) {
                let b = coopLoad<Cols>(&x_tile[(col + j * EDGE) * PITCH + k], PITCH);
                for (var i = 0u; i < ROW_MATRICES; i++) {
                    sums[i * COL_MATRICES + j] = coopMultiplyAdd(a[i], b, sums[i * COL_MATRICES + j]);
                }
            }
        }
        workgroupBarrier();
    }

    let to = (subgroup & 3u) * EDGE * EDGE;
    for (var m = 0u; m < MATRICES; m++) {
        // By constants: an array that is indexed by a variable would lie in memory all the time.
        switch m {
            case 0u: { coopStore(sums[0], &y_tile[to], EDGE); }
            case 1u: { coopStore(sums[1u % MATRICES], &y_tile[to], EDGE); }
            case 2u: { coopStore(sums[2u % MATRICES], &y_tile[to], EDGE); }
            case 3u: { coopStore(sums[3u % MATRICES], &y_tile[to], EDGE); }
            case 4u: { coopStore(sums[4u % MATRICES], &y_tile[to], EDGE); }
            case 5u: { coopStore(sums[5u % MATRICES], &y_tile[to], EDGE); }
            case 6u: { coopStore(sums[6u % MATRICES], &y_tile[to], EDGE); }
            case 7u: { coopStore(sums[7u % MATRICES], &y_tile[to], EDGE); }
            case 8u: { coopStore(sums[8u % MATRICES], &y_tile[to], EDGE); }
            case 9u: { coopStore(sums[9u % MATRICES], &y_tile[to], EDGE); }
            case 10u: { coopStore(sums[10u % MATRICES], &y_tile[to], EDGE); }
            case 11u: { coopStore(sums[11u % MATRICES], &y_tile[to], EDGE); }
            case 12u: { coopStore(sums[12u % MATRICES], &y_tile[to], EDGE); }
            case 13u: { coopStore(sums[13u % MATRICES], &y_tile[to], EDGE); }
            case 14u: { coopStore(sums[14u % MATRICES], &y_tile[to], EDGE); }
            default: { coopStore(sums[MATRICES - 1u], &y_tile[to], EDGE); }
        }
        workgroupBarrier();
        for (var at = lane; at < 4u * EDGE * EDGE; at += WORKGROUP) {
            let s = at / (EDGE * EDGE);
            let r = ((s & 1u) * ROW_MATRICES + m / COL_MATRICES) * EDGE + at % EDGE;
            let c = ((s >> 1u) * COL_MATRICES + m % COL_MATRICES) * EDGE + at / EDGE % EDGE;
            put_scaled(t, r, c, y_tile[at], row_scales[w_row(t, r)]);
        }
        workgroupBarrier();
    }
}
