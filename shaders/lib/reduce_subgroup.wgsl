// Sums over a workgroup, SUMS of them at once: subgroupAdd first, then one partial sum per subgroup in workgroup memory.

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

const SLOTS = WORKGROUP / 4u;  // no subgroup is smaller than 4
var<workgroup> partial: array<f32, SUMS * SLOTS>;

fn reduce_put(lane: Lane, i: u32, value: f32) {
    let sum = subgroupAdd(value);
    if (lane.in_subgroup == 0u) {
        partial[i * SLOTS + lane.subgroup] = sum;
    }
}

// After a barrier: sum `i` over the whole workgroup.
fn reduce_get(lane: Lane, i: u32) -> f32 {
    var sum = partial[i * SLOTS];
    for (var s = 1u; s < lane.subgroups; s++) {
        sum += partial[i * SLOTS + s];
    }
    return sum;
}
