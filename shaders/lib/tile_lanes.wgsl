// The lanes of a tile in workgroup memory: which of them fill it, and which of its sums each holds,
// LANE_ROWS by LANE_COLS, strided so that neighbours read different banks. A kernel says how many
// vec4 a column of activations has (X_VEC4), and fills one of them (`fill_x_vec4`) or a row of
// weights (`fill_w_row`).
// Needs: TILE_ROWS, TILE_COLS, LANE_ROWS, LANE_COLS, WORKGROUP = TILE_ROWS / LANE_ROWS * TILE_COLS
// / LANE_COLS.

const ROW_LANES = TILE_ROWS / LANE_ROWS;
const COL_LANES = TILE_COLS / LANE_COLS;
const COL_QUADS = LANE_COLS / 4u;
const LANE_SUMS = LANE_ROWS * COL_QUADS;  // vec4 of them, at most 16
// Lanes that fetch activations, and how many rows and vec4 of activations a lane fills.
const FETCHING = select(WORKGROUP, WORKGROUP - min(TILE_ROWS, WORKGROUP - 1u), WORKGROUP >= 2u * TILE_ROWS);
const W_OF_LANE = (TILE_ROWS + WORKGROUP - 1u) / WORKGROUP;
const X_OF_LANE = (TILE_COLS * X_VEC4 + FETCHING - 1u) / FETCHING;

fn fill_x(t: Tile, first: u32, chunk: u32) {
    for (var i = 0u; i < X_OF_LANE; i++) {
        let j = first + i * FETCHING;
        if (TILE_COLS * X_VEC4 % FETCHING == 0u || j < TILE_COLS * X_VEC4) {
            fill_x_vec4(t, j, chunk);
        }
    }
}

fn fill_w(t: Tile, lane: u32, chunk: u32) {
    for (var i = 0u; i < W_OF_LANE; i++) {
        let r = lane + i * WORKGROUP;
        if (TILE_ROWS % WORKGROUP == 0u || r < TILE_ROWS) {
            fill_w_row(t, r, chunk);
        }
    }
}

// Where there are twice as many lanes as rows, one half of them decodes and the other fetches
// activations.
fn fill(t: Tile, lane: u32, chunk: u32) {
    if (WORKGROUP >= 2u * TILE_ROWS && lane >= TILE_ROWS) {
        fill_x(t, lane - TILE_ROWS, chunk);
    } else {
        fill_w(t, lane, chunk);
        if (WORKGROUP < 2u * TILE_ROWS) {
            // From the last lane on, as the first ones decode.
            fill_x(t, WORKGROUP - 1u - lane, chunk);
        }
    }
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

// Writes the sums of rows tr, tr + ROW_LANES, ... and columns tc, tc + COL_LANES, ...
fn put_sums(t: Tile, tr: u32, tc: u32, sums: ptr<function, array<vec4<f32>, LANE_SUMS>>) {
    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = tr + ROW_LANES * r;
        for (var c = 0u; c < COL_QUADS; c++) {
            let s = sums_of_row(sums, r, c);
            let col = tc + 4u * COL_LANES * c;
            put(t, row, col, s.x);
            put(t, row, col + COL_LANES, s.y);
            put(t, row, col + 2u * COL_LANES, s.z);
            put(t, row, col + 3u * COL_LANES, s.w);
        }
    }
}
