// What the product of a row, or each of its weights, is multiplied by: nothing, for most tensors.

fn row_factor(row: u32) -> f32 {
    return 1.0;
}
