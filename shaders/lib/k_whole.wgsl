// k is a multiple of 32: chunks have all of their features.

fn k_clamped(i: u32) -> u32 {
    return i;
}

fn k_exists(i: u32) -> bool {
    return true;
}
