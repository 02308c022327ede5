// for i in 0..4·iterations: c[j] += a · b[j] for 4 independent matrices of sums, each subgroup
// its own
//
// All elements of a are 1 and of b[j] j + 1, so every sum of c[j] must be EDGE (j + 1) times the
// steps.

var<workgroup> ones: array<f16, EDGE * EDGE>;
var<workgroup> factors: array<f16, 4u * EDGE * EDGE>;
var<workgroup> sums: array<f32, 4u * EDGE * EDGE>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < 4u * EDGE * EDGE; i += LANES) {
        ones[i % (EDGE * EDGE)] = f16(params.seed);
        factors[i] = f16(params.seed + i / (EDGE * EDGE));
    }
    workgroupBarrier();
    let a = coopLoadT<Rows>(&ones[0], EDGE);
    let b0 = coopLoad<Cols>(&factors[0], EDGE);
    let b1 = coopLoad<Cols>(&factors[EDGE * EDGE], EDGE);
    let b2 = coopLoad<Cols>(&factors[2u * EDGE * EDGE], EDGE);
    let b3 = coopLoad<Cols>(&factors[3u * EDGE * EDGE], EDGE);
    var c0: Sums;
    var c1: Sums;
    var c2: Sums;
    var c3: Sums;
    for (var i = 0u; i < 4u * params.iterations; i++) {
        c0 = coopMultiplyAdd(a, b0, c0);
        c1 = coopMultiplyAdd(a, b1, c1);
        c2 = coopMultiplyAdd(a, b2, c2);
        c3 = coopMultiplyAdd(a, b3, c3);
    }
    coopStore(c0, &sums[0], EDGE);
    coopStore(c1, &sums[EDGE * EDGE], EDGE);
    coopStore(c2, &sums[2u * EDGE * EDGE], EDGE);
    coopStore(c3, &sums[3u * EDGE * EDGE], EDGE);
    workgroupBarrier();
    let at = lane % (EDGE * EDGE);
    b[group.x * LANES + lane] = bitcast<vec4<u32>>(vec4<f32>(
        sums[at], sums[EDGE * EDGE + at], sums[2u * EDGE * EDGE + at], sums[3u * EDGE * EDGE + at]));
}
