// Four rows times one column of x, 32 weights each, the lane being the row, for formats of codes: codes are multiplied, and
// scales and offsets come in once for 16 of them. Activations as in lib/dot_rows_broadcast.wgsl.

alias W = Codes;

fn w_chunk(row: u32, k: u32) -> W {
    return codes32(row, k);
}

// sum + (a, b, c, d) . x for four activations
fn dot4(a: u32, b: u32, c: u32, d: u32, x: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    let qa = centered_values(a);
    let qb = centered_values(b);
    let qc = centered_values(c);
    let qd = centered_values(d);
    var s = fma(vec4<f32>(qa.x, qb.x, qc.x, qd.x), vec4<f32>(x.x), sum);
    s = fma(vec4<f32>(qa.y, qb.y, qc.y, qd.y), vec4<f32>(x.y), s);
    s = fma(vec4<f32>(qa.z, qb.z, qc.z, qd.z), vec4<f32>(x.z), s);
    return fma(vec4<f32>(qa.w, qb.w, qc.w, qd.w), vec4<f32>(x.w), s);
}

// The sum of sixteen activations that `code_scale` has made smaller.
fn sum16(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
    return dot((a + b) + (c + d), vec4<f32>(1.0, 256.0, 65536.0, 16777216.0));
}

// s + (a, b, c, d) . x[column i of the tile, k .. k + 32]
fn dot_rows(t: Tile, a: W, b: W, c: W, d: W, i: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    var v = x_share(x_column(t, i), k, lane);
    for (var j = 0u; j < SHARES; j++) {
        v[j] *= code_scale(SHARE * lane + j % SHARE);
    }
    var s = sum;
    let x0 = vec4<f32>(
        subgroupBroadcast(v[0u / (SHARE * SUBGROUP) * SHARE + 0u % SHARE], 0u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[1u / (SHARE * SUBGROUP) * SHARE + 1u % SHARE], 1u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[2u / (SHARE * SUBGROUP) * SHARE + 2u % SHARE], 2u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[3u / (SHARE * SUBGROUP) * SHARE + 3u % SHARE], 3u % (SHARE * SUBGROUP) / SHARE));
    let x1 = vec4<f32>(
        subgroupBroadcast(v[4u / (SHARE * SUBGROUP) * SHARE + 4u % SHARE], 4u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[5u / (SHARE * SUBGROUP) * SHARE + 5u % SHARE], 5u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[6u / (SHARE * SUBGROUP) * SHARE + 6u % SHARE], 6u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[7u / (SHARE * SUBGROUP) * SHARE + 7u % SHARE], 7u % (SHARE * SUBGROUP) / SHARE));
    let x2 = vec4<f32>(
        subgroupBroadcast(v[8u / (SHARE * SUBGROUP) * SHARE + 8u % SHARE], 8u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[9u / (SHARE * SUBGROUP) * SHARE + 9u % SHARE], 9u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[10u / (SHARE * SUBGROUP) * SHARE + 10u % SHARE], 10u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[11u / (SHARE * SUBGROUP) * SHARE + 11u % SHARE], 11u % (SHARE * SUBGROUP) / SHARE));
    let x3 = vec4<f32>(
        subgroupBroadcast(v[12u / (SHARE * SUBGROUP) * SHARE + 12u % SHARE], 12u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[13u / (SHARE * SUBGROUP) * SHARE + 13u % SHARE], 13u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[14u / (SHARE * SUBGROUP) * SHARE + 14u % SHARE], 14u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[15u / (SHARE * SUBGROUP) * SHARE + 15u % SHARE], 15u % (SHARE * SUBGROUP) / SHARE));
    if (!CODES_SIGNED && CODES_CENTER == 0) {
        let sum0 = sum16(x0, x1, x2, x3);
        s = fma(vec4<f32>(a.m.x, b.m.x, c.m.x, d.m.x), vec4<f32>(sum0), s);
    }
    var s0 = dot4(a.q[0], b.q[0], c.q[0], d.q[0], x0, vec4<f32>(0.0));
    s0 = dot4(a.q[1], b.q[1], c.q[1], d.q[1], x1, s0);
    s0 = dot4(a.q[2], b.q[2], c.q[2], d.q[2], x2, s0);
    s0 = dot4(a.q[3], b.q[3], c.q[3], d.q[3], x3, s0);
    s = fma(vec4<f32>(a.d.x, b.d.x, c.d.x, d.d.x), s0, s);
    let x4 = vec4<f32>(
        subgroupBroadcast(v[16u / (SHARE * SUBGROUP) * SHARE + 16u % SHARE], 16u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[17u / (SHARE * SUBGROUP) * SHARE + 17u % SHARE], 17u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[18u / (SHARE * SUBGROUP) * SHARE + 18u % SHARE], 18u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[19u / (SHARE * SUBGROUP) * SHARE + 19u % SHARE], 19u % (SHARE * SUBGROUP) / SHARE));
    let x5 = vec4<f32>(
        subgroupBroadcast(v[20u / (SHARE * SUBGROUP) * SHARE + 20u % SHARE], 20u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[21u / (SHARE * SUBGROUP) * SHARE + 21u % SHARE], 21u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[22u / (SHARE * SUBGROUP) * SHARE + 22u % SHARE], 22u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[23u / (SHARE * SUBGROUP) * SHARE + 23u % SHARE], 23u % (SHARE * SUBGROUP) / SHARE));
    let x6 = vec4<f32>(
        subgroupBroadcast(v[24u / (SHARE * SUBGROUP) * SHARE + 24u % SHARE], 24u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[25u / (SHARE * SUBGROUP) * SHARE + 25u % SHARE], 25u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[26u / (SHARE * SUBGROUP) * SHARE + 26u % SHARE], 26u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[27u / (SHARE * SUBGROUP) * SHARE + 27u % SHARE], 27u % (SHARE * SUBGROUP) / SHARE));
    let x7 = vec4<f32>(
        subgroupBroadcast(v[28u / (SHARE * SUBGROUP) * SHARE + 28u % SHARE], 28u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[29u / (SHARE * SUBGROUP) * SHARE + 29u % SHARE], 29u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[30u / (SHARE * SUBGROUP) * SHARE + 30u % SHARE], 30u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[31u / (SHARE * SUBGROUP) * SHARE + 31u % SHARE], 31u % (SHARE * SUBGROUP) / SHARE));
    if (!CODES_SIGNED && CODES_CENTER == 0) {
        let sum1 = sum16(x4, x5, x6, x7);
        s = fma(vec4<f32>(a.m.y, b.m.y, c.m.y, d.m.y), vec4<f32>(sum1), s);
    }
    var s1 = dot4(a.q[4], b.q[4], c.q[4], d.q[4], x4, vec4<f32>(0.0));
    s1 = dot4(a.q[5], b.q[5], c.q[5], d.q[5], x5, s1);
    s1 = dot4(a.q[6], b.q[6], c.q[6], d.q[6], x6, s1);
    s1 = dot4(a.q[7], b.q[7], c.q[7], d.q[7], x7, s1);
    s = fma(vec4<f32>(a.d.y, b.d.y, c.d.y, d.d.y), s1, s);
    return s;
}
