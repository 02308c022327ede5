// Four rows times one column of x, 32 weights each, the lane being the row, for formats of codes: codes are multiplied, and
// scales and offsets come in once for 16 of them. Activations as in lib/dot_rows_broadcast.wgsl.

@group(0) @binding(3) var<storage, read> x: array<f32>;  // [batch, k]

alias W = Codes;

fn w_chunk(row: u32, k: u32) -> W {
    return codes32(row, k);
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}

// sum + q . x for four activations
fn dot_quads4(a: u32, b: u32, c: u32, d: u32, x: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    let qa = code_values(a);
    let qb = code_values(b);
    let qc = code_values(c);
    let qd = code_values(d);
    var s = fma(vec4<f32>(qa.x, qb.x, qc.x, qd.x), vec4<f32>(x.x), sum);
    s = fma(vec4<f32>(qa.y, qb.y, qc.y, qd.y), vec4<f32>(x.y), s);
    s = fma(vec4<f32>(qa.z, qb.z, qc.z, qd.z), vec4<f32>(x.z), s);
    return fma(vec4<f32>(qa.w, qb.w, qc.w, qd.w), vec4<f32>(x.w), s);
}

// s + (a, b, c, d) . x[col, k .. k + 32]
fn dot_rows(a: W, b: W, c: W, d: W, col: u32, k: u32, lane: u32, sum: vec4<f32>) -> vec4<f32> {
    var v: array<f32, 32u / SUBGROUP>;
    let first = params.x_offset + col * params.x_stride;
    for (var i = 0u; i < 32u / SUBGROUP; i++) {
        let at = k + i * SUBGROUP + lane;
        v[i] = select(0.0, x[first + min(at, params.cols - 1u)] * code_scale(lane), at < params.cols);
    }
    var s = sum;
    let x0 = vec4<f32>(
        subgroupBroadcast(v[0u / SUBGROUP], 0u % SUBGROUP), subgroupBroadcast(v[1u / SUBGROUP], 1u % SUBGROUP),
        subgroupBroadcast(v[2u / SUBGROUP], 2u % SUBGROUP), subgroupBroadcast(v[3u / SUBGROUP], 3u % SUBGROUP));
    let x1 = vec4<f32>(
        subgroupBroadcast(v[4u / SUBGROUP], 4u % SUBGROUP), subgroupBroadcast(v[5u / SUBGROUP], 5u % SUBGROUP),
        subgroupBroadcast(v[6u / SUBGROUP], 6u % SUBGROUP), subgroupBroadcast(v[7u / SUBGROUP], 7u % SUBGROUP));
    let x2 = vec4<f32>(
        subgroupBroadcast(v[8u / SUBGROUP], 8u % SUBGROUP), subgroupBroadcast(v[9u / SUBGROUP], 9u % SUBGROUP),
        subgroupBroadcast(v[10u / SUBGROUP], 10u % SUBGROUP), subgroupBroadcast(v[11u / SUBGROUP], 11u % SUBGROUP));
    let x3 = vec4<f32>(
        subgroupBroadcast(v[12u / SUBGROUP], 12u % SUBGROUP), subgroupBroadcast(v[13u / SUBGROUP], 13u % SUBGROUP),
        subgroupBroadcast(v[14u / SUBGROUP], 14u % SUBGROUP), subgroupBroadcast(v[15u / SUBGROUP], 15u % SUBGROUP));
    if (!CODES_SIGNED) {
        let t = dot((x0 + x1) + (x2 + x3), vec4<f32>(1.0, 256.0, 65536.0, 16777216.0));
        s = fma(vec4<f32>(a.m.x, b.m.x, c.m.x, d.m.x), vec4<f32>(t), s);
    }
    var s0 = dot_quads4(a.q[0], b.q[0], c.q[0], d.q[0], x0, vec4<f32>(0.0));
    s0 = dot_quads4(a.q[1], b.q[1], c.q[1], d.q[1], x1, s0);
    s0 = dot_quads4(a.q[2], b.q[2], c.q[2], d.q[2], x2, s0);
    s0 = dot_quads4(a.q[3], b.q[3], c.q[3], d.q[3], x3, s0);
    s = fma(vec4<f32>(a.d.x, b.d.x, c.d.x, d.d.x), s0, s);
    let x4 = vec4<f32>(
        subgroupBroadcast(v[16u / SUBGROUP], 16u % SUBGROUP), subgroupBroadcast(v[17u / SUBGROUP], 17u % SUBGROUP),
        subgroupBroadcast(v[18u / SUBGROUP], 18u % SUBGROUP), subgroupBroadcast(v[19u / SUBGROUP], 19u % SUBGROUP));
    let x5 = vec4<f32>(
        subgroupBroadcast(v[20u / SUBGROUP], 20u % SUBGROUP), subgroupBroadcast(v[21u / SUBGROUP], 21u % SUBGROUP),
        subgroupBroadcast(v[22u / SUBGROUP], 22u % SUBGROUP), subgroupBroadcast(v[23u / SUBGROUP], 23u % SUBGROUP));
    let x6 = vec4<f32>(
        subgroupBroadcast(v[24u / SUBGROUP], 24u % SUBGROUP), subgroupBroadcast(v[25u / SUBGROUP], 25u % SUBGROUP),
        subgroupBroadcast(v[26u / SUBGROUP], 26u % SUBGROUP), subgroupBroadcast(v[27u / SUBGROUP], 27u % SUBGROUP));
    let x7 = vec4<f32>(
        subgroupBroadcast(v[28u / SUBGROUP], 28u % SUBGROUP), subgroupBroadcast(v[29u / SUBGROUP], 29u % SUBGROUP),
        subgroupBroadcast(v[30u / SUBGROUP], 30u % SUBGROUP), subgroupBroadcast(v[31u / SUBGROUP], 31u % SUBGROUP));
    if (!CODES_SIGNED) {
        let t = dot((x4 + x5) + (x6 + x7), vec4<f32>(1.0, 256.0, 65536.0, 16777216.0));
        s = fma(vec4<f32>(a.m.y, b.m.y, c.m.y, d.m.y), vec4<f32>(t), s);
    }
    var s1 = dot_quads4(a.q[4], b.q[4], c.q[4], d.q[4], x4, vec4<f32>(0.0));
    s1 = dot_quads4(a.q[5], b.q[5], c.q[5], d.q[5], x5, s1);
    s1 = dot_quads4(a.q[6], b.q[6], c.q[6], d.q[6], x6, s1);
    s1 = dot_quads4(a.q[7], b.q[7], c.q[7], d.q[7], x7, s1);
    s = fma(vec4<f32>(a.d.y, b.d.y, c.d.y, d.d.y), s1, s);
    return s;
}
