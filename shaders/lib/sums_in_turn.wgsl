// A chunk of four rows times every column of the tile, two at a time in a loop that stays one: in
// straight code a software driver's compiler mixes the columns and keeps all their sums on the
// stack. An index that is not constant would cost a gather, so the sums move up instead: the next
// two are always the first, and after all columns each is where it was.

fn add_chunk(t: Tile, a: W, b: W, c: W, d: W, k: u32, lane: u32, sums: ptr<function, array<vec4<f32>, COLS>>) {
    // COLS, which the compiler cannot know: it would unroll the loop.
    let count = COLS + (params.rows >> 31u);
    var i = 0u;
    loop {
        let first = dot_rows(t, a, b, c, d, i, k, lane, (*sums)[0]);
        let second = dot_rows(t, a, b, c, d, i + 1u, k, lane, (*sums)[1]);
        for (var j = 2u; j < COLS; j++) {
            (*sums)[j - 2u] = (*sums)[j];
        }
        (*sums)[COLS - 2u] = first;
        (*sums)[COLS - 1u] = second;
        continuing {
            i += 2u;
            break if i >= count;
        }
    }
}
