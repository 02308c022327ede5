// The 32 activations of a chunk shared out over a subgroup of SUBGROUP lanes, 64 bits a load: lane
// l holds elements 2 l, 2 l + 1, 2 (SUBGROUP + l), … k, x_offset and x_stride are even.

@group(0) @binding(3) var<storage, read> x: array<u64>;  // [batch, k / 2]

const SHARE = 2u;  // neighbouring elements in one lane
const SHARES = max(2u, 32u / SUBGROUP);

fn x_share(col: u32, k: u32, lane: u32) -> array<f32, SHARES> {
    let first = params.x_offset + col * params.x_stride;
    var v: array<f32, SHARES>;
    for (var i = 0u; i < SHARES; i += 2u) {
        let at = k + i * SUBGROUP + 2u * lane;
        let pair = x[(first + min(at, params.cols - 2u)) >> 1u];
        v[i] = select(0.0, bitcast<f32>(u32(pair)), at < params.cols);
        v[i + 1u] = select(0.0, bitcast<f32>(u32(pair >> 32u)), at < params.cols);
    }
    return v;
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
