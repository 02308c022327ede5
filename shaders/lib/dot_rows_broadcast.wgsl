// Four rows times one column of x, 32 weights each, the lane being the row: each lane loads its share of the 32
// activations once, and the subgroup hands them round. On software adapters a load costs much more than a broadcast.
// SUBGROUP is the subgroup's size, known to be fixed (4, 8, 16 or 32).

struct W {
    v: array<vec4<f32>, 8>,
}

fn w_chunk(row: u32, k: u32) -> W {
    return W(decode32(row, k));
}

// sum + (a, b, c, d) . x for four activations
fn dot4(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, x: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(x.x), sum);
    s = fma(vec4<f32>(a.y, b.y, c.y, d.y), vec4<f32>(x.y), s);
    s = fma(vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(x.z), s);
    return fma(vec4<f32>(a.w, b.w, c.w, d.w), vec4<f32>(x.w), s);
}

// s + (a, b, c, d) . x[column i of the tile, k .. k + 32]
fn dot_rows(t: Tile, a: W, b: W, c: W, d: W, i: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    let v = x_share(x_column(t, i), k, lane);
    var s = sum;
    let x0 = vec4<f32>(
        subgroupBroadcast(v[0u / (SHARE * SUBGROUP) * SHARE + 0u % SHARE], 0u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[1u / (SHARE * SUBGROUP) * SHARE + 1u % SHARE], 1u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[2u / (SHARE * SUBGROUP) * SHARE + 2u % SHARE], 2u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[3u / (SHARE * SUBGROUP) * SHARE + 3u % SHARE], 3u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[0], b.v[0], c.v[0], d.v[0], x0, s);
    let x1 = vec4<f32>(
        subgroupBroadcast(v[4u / (SHARE * SUBGROUP) * SHARE + 4u % SHARE], 4u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[5u / (SHARE * SUBGROUP) * SHARE + 5u % SHARE], 5u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[6u / (SHARE * SUBGROUP) * SHARE + 6u % SHARE], 6u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[7u / (SHARE * SUBGROUP) * SHARE + 7u % SHARE], 7u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[1], b.v[1], c.v[1], d.v[1], x1, s);
    let x2 = vec4<f32>(
        subgroupBroadcast(v[8u / (SHARE * SUBGROUP) * SHARE + 8u % SHARE], 8u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[9u / (SHARE * SUBGROUP) * SHARE + 9u % SHARE], 9u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[10u / (SHARE * SUBGROUP) * SHARE + 10u % SHARE], 10u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[11u / (SHARE * SUBGROUP) * SHARE + 11u % SHARE], 11u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[2], b.v[2], c.v[2], d.v[2], x2, s);
    let x3 = vec4<f32>(
        subgroupBroadcast(v[12u / (SHARE * SUBGROUP) * SHARE + 12u % SHARE], 12u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[13u / (SHARE * SUBGROUP) * SHARE + 13u % SHARE], 13u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[14u / (SHARE * SUBGROUP) * SHARE + 14u % SHARE], 14u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[15u / (SHARE * SUBGROUP) * SHARE + 15u % SHARE], 15u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[3], b.v[3], c.v[3], d.v[3], x3, s);
    let x4 = vec4<f32>(
        subgroupBroadcast(v[16u / (SHARE * SUBGROUP) * SHARE + 16u % SHARE], 16u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[17u / (SHARE * SUBGROUP) * SHARE + 17u % SHARE], 17u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[18u / (SHARE * SUBGROUP) * SHARE + 18u % SHARE], 18u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[19u / (SHARE * SUBGROUP) * SHARE + 19u % SHARE], 19u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[4], b.v[4], c.v[4], d.v[4], x4, s);
    let x5 = vec4<f32>(
        subgroupBroadcast(v[20u / (SHARE * SUBGROUP) * SHARE + 20u % SHARE], 20u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[21u / (SHARE * SUBGROUP) * SHARE + 21u % SHARE], 21u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[22u / (SHARE * SUBGROUP) * SHARE + 22u % SHARE], 22u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[23u / (SHARE * SUBGROUP) * SHARE + 23u % SHARE], 23u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[5], b.v[5], c.v[5], d.v[5], x5, s);
    let x6 = vec4<f32>(
        subgroupBroadcast(v[24u / (SHARE * SUBGROUP) * SHARE + 24u % SHARE], 24u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[25u / (SHARE * SUBGROUP) * SHARE + 25u % SHARE], 25u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[26u / (SHARE * SUBGROUP) * SHARE + 26u % SHARE], 26u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[27u / (SHARE * SUBGROUP) * SHARE + 27u % SHARE], 27u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[6], b.v[6], c.v[6], d.v[6], x6, s);
    let x7 = vec4<f32>(
        subgroupBroadcast(v[28u / (SHARE * SUBGROUP) * SHARE + 28u % SHARE], 28u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[29u / (SHARE * SUBGROUP) * SHARE + 29u % SHARE], 29u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[30u / (SHARE * SUBGROUP) * SHARE + 30u % SHARE], 30u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[31u / (SHARE * SUBGROUP) * SHARE + 31u % SHARE], 31u % (SHARE * SUBGROUP) / SHARE));
    s = dot4(a.v[7], b.v[7], c.v[7], d.v[7], x7, s);
    return s;
}
