// Sums over the lanes along k, SUMS of them at once, through workgroup memory alone.

struct Lane {
    index: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    reduced(group, grid, Lane(index));
}

var<workgroup> partial: array<f32, SUMS * WORKGROUP>;

fn reduce_put(lane: Lane, i: u32, value: f32) {
    partial[i * WORKGROUP + lane.index] = value;
}

// After a barrier: sum `i` over the lanes along k of row lane `across`, pairwise.
fn reduce_get(lane: Lane, i: u32, across: u32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var l = 0u; l < K_LANES; l += 4u) {
        let at = i * WORKGROUP + across * K_LANES + l;
        sum += vec4<f32>(partial[at], partial[at + 1u], partial[at + 2u], partial[at + 3u]);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
