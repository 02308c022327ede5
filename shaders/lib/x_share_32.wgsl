// The 32 activations of a chunk shared out over a subgroup of SUBGROUP lanes, one element a load:
// lane l holds elements l, SUBGROUP + l, …

const SHARE = 1u;  // neighbouring elements in one lane
const SHARES = 32u / SUBGROUP;

fn x_share(col: u32, k: u32, lane: u32) -> array<f32, SHARES> {
    let first = params.x_offset + col * params.x_stride;
    var v: array<f32, SHARES>;
    for (var i = 0u; i < SHARES; i++) {
        let at = k + i * SUBGROUP + lane;
        v[i] = select(0.0, input(first + min(at, params.cols - 1u)), at < params.cols);
    }
    return v;
}

fn x_scale(col: u32) -> f32 {
    return 1.0;
}
