// The weights of a product are columns of a list: k counts its entries, and how many there are only
// the device knows.

@group(0) @binding(6) var<storage, read> list: array<u32>;  // mask; at params.list: count, 0, 0, 0, then the list

// Four weights; `s` is the scale of the row, where it has one.
fn weights4(row: u32, i: u32, s: f32) -> vec4<f32> {
    let at = params.list + 4u + i;
    return vec4<f32>(
        weight(row, list[at], s), weight(row, list[at + 1u], s), weight(row, list[at + 2u], s), weight(row, list[at + 3u], s));
}

fn weights32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let s = row_scale(row);
    return array<vec4<f32>, 8>(
        weights4(row, k, s), weights4(row, k + 4u, s), weights4(row, k + 8u, s), weights4(row, k + 12u, s),
        weights4(row, k + 16u, s), weights4(row, k + 20u, s), weights4(row, k + 24u, s), weights4(row, k + 28u, s));
}

// Chunks of k up to here have weights.
fn last_chunk() -> u32 {
    return min(params.chunk_end, (list[params.list] + 31u) / 32u);
}
