// Where codes of activations lie: 32 chunks side by side, 16 bytes of each in turn, so that
// neighbouring lanes read neighbours. A chunk has `parts` of them.

fn code_place(chunk: u32, part: u32, parts: u32) -> u32 {
    return ((chunk >> 5u) * parts + part) * 32u + (chunk & 31u);
}

// 16 bytes of a column of `chunks` chunks.
fn code_room(chunks: u32, parts: u32) -> u32 {
    return (chunks + 31u) / 32u * parts * 32u;
}
