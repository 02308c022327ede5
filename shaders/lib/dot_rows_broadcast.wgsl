// Four rows times one column of x, 32 weights each, the lane being the row: each lane loads its
// share of the 32 activations once, and the subgroup hands them round. On software adapters a load
// costs much more than a broadcast.

struct W {
    v: array<vec4<f32>, 8>,
}

fn row_chunk(s: Shared, row: u32, k: u32) -> W {
    return W(weights32(row, k));
}

// sum + (a, b, c, d) . x[column i of the tile, k .. k + 32]
//
// Two sums for each row take turns, as one alone would wait for each of its own additions: 36 ms
// for 53 with 64 columns.
fn dot_rows(t: Tile, a: W, b: W, c: W, d: W, i: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    let v = x_share(x_column(t, i), k, lane);
    var even = sum;
    var odd = vec4<f32>(0.0);
    even = dot4(a.v[0], b.v[0], c.v[0], d.v[0], x_quad0(v), even);
    odd = dot4(a.v[1], b.v[1], c.v[1], d.v[1], x_quad1(v), odd);
    even = dot4(a.v[2], b.v[2], c.v[2], d.v[2], x_quad2(v), even);
    odd = dot4(a.v[3], b.v[3], c.v[3], d.v[3], x_quad3(v), odd);
    even = dot4(a.v[4], b.v[4], c.v[4], d.v[4], x_quad4(v), even);
    odd = dot4(a.v[5], b.v[5], c.v[5], d.v[5], x_quad5(v), odd);
    even = dot4(a.v[6], b.v[6], c.v[6], d.v[6], x_quad6(v), even);
    odd = dot4(a.v[7], b.v[7], c.v[7], d.v[7], x_quad7(v), odd);
    return even + odd;
}
