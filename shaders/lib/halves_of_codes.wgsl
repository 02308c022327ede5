// Weights of a tile as halves, by way of their codes. PARTS lanes share the 32 weights of a chunk.

alias Fetched = Codes;

fn fetch(row: u32, k: u32) -> Codes {
    return codes32(row, k);
}

// Quad i of a part: one of the eight by constants, as arrays that are indexed by a variable lie in
// memory.
fn quad_of_part(c: Codes, part: u32, i: u32) -> u32 {
    var q = c.q;
    if (PARTS == 1u) {
        return q[i];
    }
    if (PARTS == 2u) {
        return select(q[i], q[(i + 4u) & 7u], part == 1u);
    }
    let odd = (part & 1u) == 1u;
    return select(select(q[i], q[(i + 2u) & 7u], odd), select(q[(i + 4u) & 7u], q[(i + 6u) & 7u], odd), part >= 2u);
}

// The weights of quads i and i + 1 of a part, times `factor`, which leaves none beyond f16.
fn halves_of_part(c: Codes, part: u32, i: u32, factor: f32) -> array<vec4<f16>, 2> {
    let second = part * (8u / PARTS) + i >= 4u;
    let d = select(c.d.x, c.d.y, second) * factor;
    let m = select(c.m.x, c.m.y, second) * factor;
    return pair_halves(quad_of_part(c, part, i), quad_of_part(c, part, i + 1u), d, m);
}
