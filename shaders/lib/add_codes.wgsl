// Products of a chunk in integers: exact for each digit of the activations, then in f32.
// Needs: ROWS, COLS.

fn x_stage(starts: array<u32, COLS>, first: u32, lane: u32, is_whole: bool) {}

// Adds the products of a chunk, if it is `live`.
fn add_chunk(sums: ptr<function, array<array<f32, COLS>, ROWS>>, weights: array<W, ROWS>, starts: array<u32, COLS>, chunk: u32, along: u32, live: bool) {
    for (var c = 0u; c < COLS; c++) {
        let tail = x_part(starts[c], chunk, X_PARTS - 1u);
        let lo = x_digits(starts[c], chunk, 0u, tail.y);
        let hi = x_digits(starts[c], chunk, 1u, tail.z);
        for (var r = 0u; r < ROWS; r++) {
            let a = dot_digits(w_bytes(weights[r], 0u), lo);
            let b = dot_digits(w_bytes(weights[r], 1u), hi);
            let d = raw_scale(weights[r], chunk, 0u);
            var s = d.x * (a + b) + d.y * (lo.sum + hi.sum);
            if (TWO_SCALES) {
                let e = raw_scale(weights[r], chunk, 1u);
                s = (d.x * a + e.x * b) + (d.y * lo.sum + e.y * hi.sum);
            }
            (*sums)[r][c] += select(0.0, bitcast<f32>(tail.x) * s, live);
        }
    }
}
