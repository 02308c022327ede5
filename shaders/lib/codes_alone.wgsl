// Codes of a decoder that has no words in common for several chunks.

fn shared_codes(s: Shared, row: u32, k: u32) -> Codes {
    return codes32(row, k);
}
