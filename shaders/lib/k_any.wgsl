// k is any multiple of 4: the last chunk may lack features. They are read as 0 without a branch,
// which would make loads wait for each other.

// Features 4 i .. 4 i + 4, or the last four.
fn k_clamped(i: u32) -> u32 {
    return min(i, (params.cols >> 2u) - 1u);
}

fn k_exists(i: u32) -> bool {
    return 4u * i < params.cols;
}
