// Four rows times one column of x, 32 weights each, the lane being the row: each lane loads its share of the 32
// activations once, and the subgroup hands them round. On software adapters a load costs much more than a broadcast.
// SUBGROUP is the subgroup's size, known to be fixed (4, 8, 16 or 32).

@group(0) @binding(3) var<storage, read> x: array<f32>;  // [batch, k]

// s + (a, b, c, d) . x[col, k .. k + 32]
fn dot_rows(a: array<vec4<f32>, 8>, b: array<vec4<f32>, 8>, c: array<vec4<f32>, 8>, d: array<vec4<f32>, 8>,
            col: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    var v: array<f32, 32u / SUBGROUP>;
    let first = params.x_offset + col * params.x_stride;
    for (var i = 0u; i < 32u / SUBGROUP; i++) {
        let at = k + i * SUBGROUP + lane;
        v[i] = select(0.0, x[first + min(at, params.cols - 1u)], at < params.cols);
    }
    var s = sum;
    s = fma(vec4<f32>(a[0].x, b[0].x, c[0].x, d[0].x), vec4<f32>(subgroupBroadcast(v[0u / SUBGROUP], 0u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[0].y, b[0].y, c[0].y, d[0].y), vec4<f32>(subgroupBroadcast(v[1u / SUBGROUP], 1u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[0].z, b[0].z, c[0].z, d[0].z), vec4<f32>(subgroupBroadcast(v[2u / SUBGROUP], 2u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[0].w, b[0].w, c[0].w, d[0].w), vec4<f32>(subgroupBroadcast(v[3u / SUBGROUP], 3u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[1].x, b[1].x, c[1].x, d[1].x), vec4<f32>(subgroupBroadcast(v[4u / SUBGROUP], 4u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[1].y, b[1].y, c[1].y, d[1].y), vec4<f32>(subgroupBroadcast(v[5u / SUBGROUP], 5u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[1].z, b[1].z, c[1].z, d[1].z), vec4<f32>(subgroupBroadcast(v[6u / SUBGROUP], 6u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[1].w, b[1].w, c[1].w, d[1].w), vec4<f32>(subgroupBroadcast(v[7u / SUBGROUP], 7u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[2].x, b[2].x, c[2].x, d[2].x), vec4<f32>(subgroupBroadcast(v[8u / SUBGROUP], 8u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[2].y, b[2].y, c[2].y, d[2].y), vec4<f32>(subgroupBroadcast(v[9u / SUBGROUP], 9u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[2].z, b[2].z, c[2].z, d[2].z), vec4<f32>(subgroupBroadcast(v[10u / SUBGROUP], 10u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[2].w, b[2].w, c[2].w, d[2].w), vec4<f32>(subgroupBroadcast(v[11u / SUBGROUP], 11u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[3].x, b[3].x, c[3].x, d[3].x), vec4<f32>(subgroupBroadcast(v[12u / SUBGROUP], 12u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[3].y, b[3].y, c[3].y, d[3].y), vec4<f32>(subgroupBroadcast(v[13u / SUBGROUP], 13u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[3].z, b[3].z, c[3].z, d[3].z), vec4<f32>(subgroupBroadcast(v[14u / SUBGROUP], 14u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[3].w, b[3].w, c[3].w, d[3].w), vec4<f32>(subgroupBroadcast(v[15u / SUBGROUP], 15u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[4].x, b[4].x, c[4].x, d[4].x), vec4<f32>(subgroupBroadcast(v[16u / SUBGROUP], 16u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[4].y, b[4].y, c[4].y, d[4].y), vec4<f32>(subgroupBroadcast(v[17u / SUBGROUP], 17u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[4].z, b[4].z, c[4].z, d[4].z), vec4<f32>(subgroupBroadcast(v[18u / SUBGROUP], 18u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[4].w, b[4].w, c[4].w, d[4].w), vec4<f32>(subgroupBroadcast(v[19u / SUBGROUP], 19u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[5].x, b[5].x, c[5].x, d[5].x), vec4<f32>(subgroupBroadcast(v[20u / SUBGROUP], 20u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[5].y, b[5].y, c[5].y, d[5].y), vec4<f32>(subgroupBroadcast(v[21u / SUBGROUP], 21u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[5].z, b[5].z, c[5].z, d[5].z), vec4<f32>(subgroupBroadcast(v[22u / SUBGROUP], 22u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[5].w, b[5].w, c[5].w, d[5].w), vec4<f32>(subgroupBroadcast(v[23u / SUBGROUP], 23u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[6].x, b[6].x, c[6].x, d[6].x), vec4<f32>(subgroupBroadcast(v[24u / SUBGROUP], 24u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[6].y, b[6].y, c[6].y, d[6].y), vec4<f32>(subgroupBroadcast(v[25u / SUBGROUP], 25u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[6].z, b[6].z, c[6].z, d[6].z), vec4<f32>(subgroupBroadcast(v[26u / SUBGROUP], 26u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[6].w, b[6].w, c[6].w, d[6].w), vec4<f32>(subgroupBroadcast(v[27u / SUBGROUP], 27u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[7].x, b[7].x, c[7].x, d[7].x), vec4<f32>(subgroupBroadcast(v[28u / SUBGROUP], 28u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[7].y, b[7].y, c[7].y, d[7].y), vec4<f32>(subgroupBroadcast(v[29u / SUBGROUP], 29u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[7].z, b[7].z, c[7].z, d[7].z), vec4<f32>(subgroupBroadcast(v[30u / SUBGROUP], 30u % SUBGROUP)), s);
    s = fma(vec4<f32>(a[7].w, b[7].w, c[7].w, d[7].w), vec4<f32>(subgroupBroadcast(v[31u / SUBGROUP], 31u % SUBGROUP)), s);
    return s;
}
