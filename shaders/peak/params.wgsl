// What every probe is bound to. `LANES` and the probe's other constants stand in the header that
// Rust writes before this.
struct Params {
    iterations: u32,     // of each invocation's loop
    group_step: u32,     // words of 16 bytes from one workgroup to the next,
    iteration_step: u32, // from one iteration of the loop to the next,
    load_step: u32,      // and from one load of an iteration to the next
    seed: u32,           // 1, which no compiler knows
    never: u32,          // a value that no sum has, which no compiler knows either
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> b: array<vec4<u32>>;
