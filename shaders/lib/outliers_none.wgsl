// No feature is left out for the sake of other tokens.

fn outlier_word(chunk: u32) -> u32 {
    return 0u;
}
