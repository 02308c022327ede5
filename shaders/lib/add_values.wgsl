// Products of a chunk in f32: four weights of each row are decoded beside their products with all
// columns, and scales and offsets come in after the sums.
// Needs: ROWS, COLS.

struct Part {
    sums: array<array<f32, COLS>, ROWS>,
    x: array<f32, COLS>,  // sums of the activations
}

fn add_quad(part: ptr<function, Part>, weights: array<W, ROWS>, starts: array<u32, COLS>, chunk: u32, along: u32, i: u32) {
    var v: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        v[r] = w_quad(weights[r], i);
    }
    for (var c = 0u; c < COLS; c++) {
        let a = x_take(starts, c, chunk, along, i);
        if (W_SUMS) {
            (*part).x[c] += (a.x + a.y) + (a.z + a.w);
        }
        for (var r = 0u; r < ROWS; r++) {
            let s = (*part).sums[r][c];
            (*part).sums[r][c] = fma(v[r].x, a.x, fma(v[r].y, a.y, fma(v[r].z, a.z, fma(v[r].w, a.w, s))));
        }
    }
}

// Adds what is summed so far, with the scales of half `half` of the chunk.
fn add_part(sums: ptr<function, array<array<f32, COLS>, ROWS>>, part: ptr<function, Part>, weights: array<W, ROWS>, chunk: u32, half: u32, live: bool) {
    for (var r = 0u; r < ROWS; r++) {
        let d = w_scale(weights[r], chunk, half);
        for (var c = 0u; c < COLS; c++) {
            var s = (*part).sums[r][c];
            if (W_SCALES > 0u) {
                s *= d.x;
            }
            if (W_SUMS) {
                s = fma(d.y, (*part).x[c], s);
            }
            (*sums)[r][c] += select(0.0, s, live);
        }
    }
}

// Adds the products of a chunk, if it is `live`. The eight quads are written out, as some compilers
// leave a loop.
fn add_chunk(sums: ptr<function, array<array<f32, COLS>, ROWS>>, weights: array<W, ROWS>, starts: array<u32, COLS>, chunk: u32, along: u32, live: bool) {
    var part: Part;
    add_quad(&part, weights, starts, chunk, along, 0u);
    add_quad(&part, weights, starts, chunk, along, 1u);
    add_quad(&part, weights, starts, chunk, along, 2u);
    add_quad(&part, weights, starts, chunk, along, 3u);
    if (W_SCALES > 1u) {
        add_part(sums, &part, weights, chunk, 0u, live);
        part = Part();
    }
    add_quad(&part, weights, starts, chunk, along, 4u);
    add_quad(&part, weights, starts, chunk, along, 5u);
    add_quad(&part, weights, starts, chunk, along, 6u);
    add_quad(&part, weights, starts, chunk, along, 7u);
    add_part(sums, &part, weights, chunk, 1u, live);
}
