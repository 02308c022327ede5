// Four words at once, as two of 64 bits: for drivers that load each word of each lane by itself.

@group(0) @binding(2) var<storage, read> w4: array<vec2<u64>>;  // the same buffer as w, 16 bytes at a time

// Four words of a plane, starting at word 4 i of the row.
fn vec4_at(p: Place, plane: u32, i: u32) -> vec4<u32> {
    let v = w4[at_16_bytes(p, plane, i)];
    return vec4<u32>(u32(v.x), u32(v.x >> 32u), u32(v.y), u32(v.y >> 32u));
}
