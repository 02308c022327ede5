// Activations that `x_share` has shared out over the subgroup, back in every lane four at a time:
// each element is broadcast from the lane that has it. One function for each four, as a broadcast
// wants a constant lane.
// SUBGROUP is the subgroup's size, known to be fixed (4, 8, 16 or 32).

fn x_quad0(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[0u / (SHARE * SUBGROUP) * SHARE + 0u % SHARE], 0u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[1u / (SHARE * SUBGROUP) * SHARE + 1u % SHARE], 1u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[2u / (SHARE * SUBGROUP) * SHARE + 2u % SHARE], 2u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[3u / (SHARE * SUBGROUP) * SHARE + 3u % SHARE], 3u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad1(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[4u / (SHARE * SUBGROUP) * SHARE + 4u % SHARE], 4u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[5u / (SHARE * SUBGROUP) * SHARE + 5u % SHARE], 5u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[6u / (SHARE * SUBGROUP) * SHARE + 6u % SHARE], 6u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[7u / (SHARE * SUBGROUP) * SHARE + 7u % SHARE], 7u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad2(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[8u / (SHARE * SUBGROUP) * SHARE + 8u % SHARE], 8u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[9u / (SHARE * SUBGROUP) * SHARE + 9u % SHARE], 9u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[10u / (SHARE * SUBGROUP) * SHARE + 10u % SHARE], 10u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[11u / (SHARE * SUBGROUP) * SHARE + 11u % SHARE], 11u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad3(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[12u / (SHARE * SUBGROUP) * SHARE + 12u % SHARE], 12u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[13u / (SHARE * SUBGROUP) * SHARE + 13u % SHARE], 13u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[14u / (SHARE * SUBGROUP) * SHARE + 14u % SHARE], 14u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[15u / (SHARE * SUBGROUP) * SHARE + 15u % SHARE], 15u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad4(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[16u / (SHARE * SUBGROUP) * SHARE + 16u % SHARE], 16u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[17u / (SHARE * SUBGROUP) * SHARE + 17u % SHARE], 17u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[18u / (SHARE * SUBGROUP) * SHARE + 18u % SHARE], 18u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[19u / (SHARE * SUBGROUP) * SHARE + 19u % SHARE], 19u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad5(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[20u / (SHARE * SUBGROUP) * SHARE + 20u % SHARE], 20u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[21u / (SHARE * SUBGROUP) * SHARE + 21u % SHARE], 21u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[22u / (SHARE * SUBGROUP) * SHARE + 22u % SHARE], 22u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[23u / (SHARE * SUBGROUP) * SHARE + 23u % SHARE], 23u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad6(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[24u / (SHARE * SUBGROUP) * SHARE + 24u % SHARE], 24u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[25u / (SHARE * SUBGROUP) * SHARE + 25u % SHARE], 25u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[26u / (SHARE * SUBGROUP) * SHARE + 26u % SHARE], 26u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[27u / (SHARE * SUBGROUP) * SHARE + 27u % SHARE], 27u % (SHARE * SUBGROUP) / SHARE));
}

fn x_quad7(v: array<f32, SHARES>) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(v[28u / (SHARE * SUBGROUP) * SHARE + 28u % SHARE], 28u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[29u / (SHARE * SUBGROUP) * SHARE + 29u % SHARE], 29u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[30u / (SHARE * SUBGROUP) * SHARE + 30u % SHARE], 30u % (SHARE * SUBGROUP) / SHARE),
        subgroupBroadcast(v[31u / (SHARE * SUBGROUP) * SHARE + 31u % SHARE], 31u % (SHARE * SUBGROUP) / SHARE));
}

// sum + (a, b, c, d) . x for four rows and four activations
fn dot4(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, x: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(x.x), sum);
    s = fma(vec4<f32>(a.y, b.y, c.y, d.y), vec4<f32>(x.y), s);
    s = fma(vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(x.z), s);
    return fma(vec4<f32>(a.w, b.w, c.w, d.w), vec4<f32>(x.w), s);
}
