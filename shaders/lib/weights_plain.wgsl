// The weights of a product lie where k says.

fn weights32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    return decode32(row, k);
}

// Chunks of k up to here have weights.
fn last_chunk() -> u32 {
    return params.chunk_end;
}
