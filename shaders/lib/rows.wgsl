// Writes 32 decoded weights of a row as f32.

@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [rows, k]

// The column at a place of the device's order.
fn column_at(at: u32) -> u32 {
    if (ACT_ORDER == 1u) {
        return book_word(at);
    }
    return at;
}

// Row `row` of w becomes row `to` of y.
fn store32(to: u32, row: u32, k: u32, weights: array<vec4<f32>, 8>) {
    let first = params.y_offset + to * params.y_stride;
    let factor = row_factor(row);
    for (var i = 0u; i < 8u; i++) {
        let at = k + 4u * i;
        let four = weights[i] * factor;
        store(first, at, four.x);
        store(first, at + 1u, four.y);
        store(first, at + 2u, four.z);
        store(first, at + 3u, four.w);
    }
}

fn store(first: u32, at: u32, weight: f32) {
    if (at < params.cols) {
        y[first + column_at(at)] = weight;
    }
}
