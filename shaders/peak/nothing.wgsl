// The smallest dispatch that has a result.

@compute @workgroup_size(LANES)
fn main() {
    b[0] = vec4<u32>(params.seed);
}
