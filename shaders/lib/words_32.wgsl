// Four words at once.

@group(0) @binding(2) var<storage, read> w4: array<vec4<u32>>;  // the same buffer as w, 16 bytes at a time

// Four words of a plane, starting at word 4 i of the row.
fn vec4_at(p: Place, plane: u32, i: u32) -> vec4<u32> {
    return w4[at_16_bytes(p, plane, i)];
}
