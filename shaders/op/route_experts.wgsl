// route_experts:   the columns of the batch in the order of their experts, cut into tiles of COLS
// columns of one expert each
//
// One workgroup, a lane an expert at a time: first it counts its columns, then it knows where they
// go. Columns keep their order within an expert, so that the same routes give the same bits.
// Needs: WORKGROUP, COLS.

struct Params {
    x_offset: u32, // element of x for column 0
    experts: u32,  // how many there are
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<u32>;        // expert of each column; those that do not exist are left out
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [count] columns in order; then [tiles, 4]: expert, first, end, 0

var<workgroup> counts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    let experts = params.experts;
    let tiles = span.count / COLS + min(experts, span.count);
    let first_column = params.x_offset + span.first;
    var column = 0u;  // columns of the experts before
    var tile = 0u;    // and their tiles
    for (var first = 0u; first < experts; first += WORKGROUP) {
        let expert = first + lane;
        var count = 0u;
        for (var i = 0u; i < span.count; i++) {
            count += u32(expert < experts && x[first_column + i] == expert);
        }
        counts[lane] = count;
        workgroupBarrier();
        var my_column = column;
        var my_tile = tile;
        for (var i = 0u; i < WORKGROUP; i++) {
            my_column += select(0u, counts[i], i < lane);
            my_tile += select(0u, (counts[i] + COLS - 1u) / COLS, i < lane);
            column += counts[i];
            tile += (counts[i] + COLS - 1u) / COLS;
        }
        for (var begin = 0u; begin < count; begin += COLS) {
            let at = span.count + 4u * (my_tile + begin / COLS);
            y[at] = expert;
            y[at + 1u] = my_column + begin;
            y[at + 2u] = my_column + min(begin + COLS, count);
        }
        for (var i = 0u; i < span.count && count > 0u; i++) {
            if (x[first_column + i] == expert) {
                y[my_column] = i;
                my_column += 1u;
            }
        }
        workgroupBarrier();
    }
    // Tiles that nothing is left for.
    for (var i = tile + lane; i < tiles; i += WORKGROUP) {
        y[span.count + 4u * i] = 0xffffffffu;
        y[span.count + 4u * i + 2u] = 0u;
    }
}
