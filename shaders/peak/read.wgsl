// for i in 0..words: sum ^= a[i]
//
// The sum is written if it has a value that only the host knows, so every load must happen and next
// to nothing is written.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var at = group.x * params.group_step + lane * LANE_STEP;
    var sum = vec4<u32>(params.seed);
    for (var i = 0u; i < params.iterations; i++) {
        for (var load = 0u; load < LOADS; load++) {
            sum ^= a[at + load * params.load_step];
        }
        at += params.iteration_step;
    }
    if (sum.x ^ sum.y ^ sum.z ^ sum.w) == params.never {
        b[lane] = sum;
    }
}
