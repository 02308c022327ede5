//! get_rows: `y[i, k] = w[rows[i], k]`, the look-up of token embeddings.

use super::{Family, Kernel, Operation, dequantize};

pub static KERNEL: Kernel = Kernel {
    name: "get_rows",
    operation: Operation::GetRows,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/get_rows.wgsl"),
    configs: dequantize::configs,
};
