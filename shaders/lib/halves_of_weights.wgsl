// Weights of a tile as halves where there are no codes. PARTS lanes share the 32 weights of a
// chunk, but each decodes all of them: two or four lanes are one load and the same instructions.

struct Fetched {
    w: array<vec4<f32>, 8>,
}

fn fetch(row: u32, k: u32) -> Fetched {
    return Fetched(weights32(row, k));
}

// Quad i of a part: one of the eight by constants, as arrays that are indexed by a variable lie in
// memory.
fn quad_of_part(c: Fetched, part: u32, i: u32) -> vec4<f32> {
    var w = c.w;
    if (PARTS == 1u) {
        return w[i];
    }
    if (PARTS == 2u) {
        return select(w[i], w[(i + 4u) & 7u], part == 1u);
    }
    let odd = (part & 1u) == 1u;
    return select(select(w[i], w[(i + 2u) & 7u], odd), select(w[(i + 4u) & 7u], w[(i + 6u) & 7u], odd), part >= 2u);
}

// The weights of quads i and i + 1 of a part, times `factor`, which leaves none beyond f16.
fn halves_of_part(c: Fetched, part: u32, i: u32, factor: f32) -> array<vec4<f16>, 2> {
    let a = quad_of_part(c, part, i) * factor;
    let b = quad_of_part(c, part, i + 1u) * factor;
    return array<vec4<f16>, 2>(vec4<f16>(a), vec4<f16>(b));
}
