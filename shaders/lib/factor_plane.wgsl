// What the product of a row, or each of its weights, is multiplied by: the last word of a row of
// plane FACTOR_PLANE.

fn row_factor(row: u32) -> f32 {
    return bitcast<f32>(plane_word(FACTOR_PLANE, row, plane_stride(FACTOR_PLANE) - 1u));
}
