// for i in 0..words: b[i] = noise(i)
//
// Also what fills the buffers before they are read: a software driver's untouched pages are all one
// page of zeros.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var at = group.x * params.group_step + lane * LANE_STEP;
    for (var i = 0u; i < params.iterations; i++) {
        for (var load = 0u; load < LOADS; load++) {
            let word = at + load * params.load_step;
            b[word] = vec4<u32>(word * 0x9e3779b9u) ^ vec4<u32>(params.seed, 0x85ebca6bu, 0xc2b2ae35u, 0x27d4eb2fu);
        }
        at += params.iteration_step;
    }
}
