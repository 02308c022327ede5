// for i in 0..words: b[i] = a[i]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var at = group.x * params.group_step + lane * LANE_STEP;
    for (var i = 0u; i < params.iterations; i++) {
        for (var load = 0u; load < LOADS; load++) {
            b[at + load * params.load_step] = a[at + load * params.load_step];
        }
        at += params.iteration_step;
    }
}
