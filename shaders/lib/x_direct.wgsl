// Activations of a chunk from where they lie.

fn x_stage(starts: array<u32, COLS>, first: u32, lane: u32, is_whole: bool) {}

// Features 4 i .. 4 i + 4 of chunk `chunk`, which lane `along` of those along k takes.
fn x_take(starts: array<u32, COLS>, c: u32, chunk: u32, along: u32, i: u32) -> vec4<f32> {
    return x_quad(starts[c], 8u * chunk + i);
}
