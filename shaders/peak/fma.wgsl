// for i in 0..4·iterations: acc[c] = fma(acc[c], x, y) for 16 independent accumulators, `T` = f32
// or f16
//
// x = y = 1 at run time: each accumulator counts its steps exactly, and the host can check the
// count.

fn start(lane: u32, chain: u32) -> vec4<T> {
    return vec4<T>(vec4<u32>(lane % 8u + chain) + vec4<u32>(0u, 1u, 2u, 3u));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let x = vec4<T>(T(params.seed));
    let y = vec4<T>(T(params.seed));
    var acc0 = start(lane, 0u);
    var acc1 = start(lane, 1u);
    var acc2 = start(lane, 2u);
    var acc3 = start(lane, 3u);
    for (var i = 0u; i < params.iterations; i++) {
        acc0 = fma(acc0, x, y); acc1 = fma(acc1, x, y); acc2 = fma(acc2, x, y); acc3 = fma(acc3, x, y);
        acc0 = fma(acc0, x, y); acc1 = fma(acc1, x, y); acc2 = fma(acc2, x, y); acc3 = fma(acc3, x, y);
        acc0 = fma(acc0, x, y); acc1 = fma(acc1, x, y); acc2 = fma(acc2, x, y); acc3 = fma(acc3, x, y);
        acc0 = fma(acc0, x, y); acc1 = fma(acc1, x, y); acc2 = fma(acc2, x, y); acc3 = fma(acc3, x, y);
    }
    let sum = vec4<f32>(acc0) + vec4<f32>(acc1) + vec4<f32>(acc2) + vec4<f32>(acc3);
    b[group.x * LANES + lane] = vec4<u32>(sum); // exact: small whole numbers
}
