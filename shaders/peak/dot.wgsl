// for i in 0..4·iterations: acc[c] += dot4I8(acc[c], y) for 8 independent accumulators
//
// Each step needs the last one's result, so none can be left out; the host repeats it exactly.

fn step(acc: i32, y: u32) -> i32 {
    return acc + dot4I8Packed(bitcast<u32>(acc), y);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let y = params.seed * 0x0305fd07u;
    let first = i32(lane % 8u) * 0x01010101;
    var acc0 = first + 1; var acc1 = first + 2; var acc2 = first + 3; var acc3 = first + 4;
    var acc4 = first + 5; var acc5 = first + 6; var acc6 = first + 7; var acc7 = first + 8;
    for (var i = 0u; i < params.iterations; i++) {
        acc0 = step(acc0, y); acc1 = step(acc1, y); acc2 = step(acc2, y); acc3 = step(acc3, y);
        acc4 = step(acc4, y); acc5 = step(acc5, y); acc6 = step(acc6, y); acc7 = step(acc7, y);
        acc0 = step(acc0, y); acc1 = step(acc1, y); acc2 = step(acc2, y); acc3 = step(acc3, y);
        acc4 = step(acc4, y); acc5 = step(acc5, y); acc6 = step(acc6, y); acc7 = step(acc7, y);
        acc0 = step(acc0, y); acc1 = step(acc1, y); acc2 = step(acc2, y); acc3 = step(acc3, y);
        acc4 = step(acc4, y); acc5 = step(acc5, y); acc6 = step(acc6, y); acc7 = step(acc7, y);
        acc0 = step(acc0, y); acc1 = step(acc1, y); acc2 = step(acc2, y); acc3 = step(acc3, y);
        acc4 = step(acc4, y); acc5 = step(acc5, y); acc6 = step(acc6, y); acc7 = step(acc7, y);
    }
    b[group.x * LANES + lane] = bitcast<vec4<u32>>(vec4<i32>(acc0 ^ acc4, acc1 ^ acc5, acc2 ^ acc6, acc3 ^ acc7));
}
