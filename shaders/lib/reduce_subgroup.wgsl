// Sums over a workgroup, all of whose lanes are along k, SUMS of them at once: subgroupAdd first,
// then one partial sum per subgroup in workgroup memory.

struct Lane {
    index: u32,
    in_subgroup: u32,
    subgroup: u32,
    subgroups: u32,
}

// The entry point stands here as its arguments differ, and they are not a struct: in HLSL naga
// leaves built-ins of subgroups without their values there, and DirectX's compiler refuses the
// shader.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_invocation_id) in_subgroup: u32,
        @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32) {
    reduced(group, grid, Lane(index, in_subgroup, subgroup, subgroups));
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
fn reduce_get(lane: Lane, i: u32, across: u32) -> f32 {
    var sum = partial[i * SLOTS];
    for (var s = 1u; s < lane.subgroups; s++) {
        sum += partial[i * SLOTS + s];
    }
    return sum;
}
