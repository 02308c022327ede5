// The outlier features of all tokens.

@group(0) @binding(6) var<storage, read> outliers: array<u32>;  // [chunks]: a bit for each feature

fn outlier_word(chunk: u32) -> u32 {
    return outliers[chunk];
}
