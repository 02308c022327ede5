// Four rows times one column of x, 32 weights each, the lane being the row: each lane loads its share of the 32
// activations once, and the subgroup hands them round. On software adapters a load costs much more than a broadcast.
// SUBGROUP is the subgroup's size, known to be fixed (4, 8, 16 or 32).

@group(0) @binding(3) var<storage, read> x: array<f32>;  // [batch, k]

struct W {
    v: array<vec4<f32>, 8>,
}

fn w_chunk(row: u32, k: u32) -> W {
    return W(decode32(row, k));
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}

// s + (a, b, c, d) . x[col, k .. k + 32]
fn dot_rows(a: W, b: W, c: W, d: W, col: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    var v: array<f32, 32u / SUBGROUP>;
    let first = params.x_offset + col * params.x_stride;
    for (var i = 0u; i < 32u / SUBGROUP; i++) {
        let at = k + i * SUBGROUP + lane;
        v[i] = select(0.0, x[first + min(at, params.cols - 1u)], at < params.cols);
    }
    var s = sum;
    s = fma(vec4<f32>(a.v[0].x, b.v[0].x, c.v[0].x, d.v[0].x), vec4<f32>(subgroupBroadcast(v[0u / SUBGROUP], 0u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[0].y, b.v[0].y, c.v[0].y, d.v[0].y), vec4<f32>(subgroupBroadcast(v[1u / SUBGROUP], 1u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[0].z, b.v[0].z, c.v[0].z, d.v[0].z), vec4<f32>(subgroupBroadcast(v[2u / SUBGROUP], 2u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[0].w, b.v[0].w, c.v[0].w, d.v[0].w), vec4<f32>(subgroupBroadcast(v[3u / SUBGROUP], 3u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[1].x, b.v[1].x, c.v[1].x, d.v[1].x), vec4<f32>(subgroupBroadcast(v[4u / SUBGROUP], 4u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[1].y, b.v[1].y, c.v[1].y, d.v[1].y), vec4<f32>(subgroupBroadcast(v[5u / SUBGROUP], 5u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[1].z, b.v[1].z, c.v[1].z, d.v[1].z), vec4<f32>(subgroupBroadcast(v[6u / SUBGROUP], 6u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[1].w, b.v[1].w, c.v[1].w, d.v[1].w), vec4<f32>(subgroupBroadcast(v[7u / SUBGROUP], 7u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[2].x, b.v[2].x, c.v[2].x, d.v[2].x), vec4<f32>(subgroupBroadcast(v[8u / SUBGROUP], 8u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[2].y, b.v[2].y, c.v[2].y, d.v[2].y), vec4<f32>(subgroupBroadcast(v[9u / SUBGROUP], 9u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[2].z, b.v[2].z, c.v[2].z, d.v[2].z), vec4<f32>(subgroupBroadcast(v[10u / SUBGROUP], 10u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[2].w, b.v[2].w, c.v[2].w, d.v[2].w), vec4<f32>(subgroupBroadcast(v[11u / SUBGROUP], 11u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[3].x, b.v[3].x, c.v[3].x, d.v[3].x), vec4<f32>(subgroupBroadcast(v[12u / SUBGROUP], 12u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[3].y, b.v[3].y, c.v[3].y, d.v[3].y), vec4<f32>(subgroupBroadcast(v[13u / SUBGROUP], 13u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[3].z, b.v[3].z, c.v[3].z, d.v[3].z), vec4<f32>(subgroupBroadcast(v[14u / SUBGROUP], 14u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[3].w, b.v[3].w, c.v[3].w, d.v[3].w), vec4<f32>(subgroupBroadcast(v[15u / SUBGROUP], 15u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[4].x, b.v[4].x, c.v[4].x, d.v[4].x), vec4<f32>(subgroupBroadcast(v[16u / SUBGROUP], 16u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[4].y, b.v[4].y, c.v[4].y, d.v[4].y), vec4<f32>(subgroupBroadcast(v[17u / SUBGROUP], 17u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[4].z, b.v[4].z, c.v[4].z, d.v[4].z), vec4<f32>(subgroupBroadcast(v[18u / SUBGROUP], 18u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[4].w, b.v[4].w, c.v[4].w, d.v[4].w), vec4<f32>(subgroupBroadcast(v[19u / SUBGROUP], 19u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[5].x, b.v[5].x, c.v[5].x, d.v[5].x), vec4<f32>(subgroupBroadcast(v[20u / SUBGROUP], 20u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[5].y, b.v[5].y, c.v[5].y, d.v[5].y), vec4<f32>(subgroupBroadcast(v[21u / SUBGROUP], 21u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[5].z, b.v[5].z, c.v[5].z, d.v[5].z), vec4<f32>(subgroupBroadcast(v[22u / SUBGROUP], 22u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[5].w, b.v[5].w, c.v[5].w, d.v[5].w), vec4<f32>(subgroupBroadcast(v[23u / SUBGROUP], 23u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[6].x, b.v[6].x, c.v[6].x, d.v[6].x), vec4<f32>(subgroupBroadcast(v[24u / SUBGROUP], 24u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[6].y, b.v[6].y, c.v[6].y, d.v[6].y), vec4<f32>(subgroupBroadcast(v[25u / SUBGROUP], 25u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[6].z, b.v[6].z, c.v[6].z, d.v[6].z), vec4<f32>(subgroupBroadcast(v[26u / SUBGROUP], 26u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[6].w, b.v[6].w, c.v[6].w, d.v[6].w), vec4<f32>(subgroupBroadcast(v[27u / SUBGROUP], 27u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[7].x, b.v[7].x, c.v[7].x, d.v[7].x), vec4<f32>(subgroupBroadcast(v[28u / SUBGROUP], 28u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[7].y, b.v[7].y, c.v[7].y, d.v[7].y), vec4<f32>(subgroupBroadcast(v[29u / SUBGROUP], 29u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[7].z, b.v[7].z, c.v[7].z, d.v[7].z), vec4<f32>(subgroupBroadcast(v[30u / SUBGROUP], 30u % SUBGROUP)), s);
    s = fma(vec4<f32>(a.v[7].w, b.v[7].w, c.v[7].w, d.v[7].w), vec4<f32>(subgroupBroadcast(v[31u / SUBGROUP], 31u % SUBGROUP)), s);
    return s;
}
