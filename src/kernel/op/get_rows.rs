//! get_rows: `y[i, k] = w[rows[i], k]`, the look-up of token embeddings.

use crate::kernel::op::dequantize;
use crate::kernel::types::{Family, Kernel, Operation};

pub static KERNEL: Kernel = Kernel {
    name: "get_rows",
    operation: Operation::GetRows,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/get_rows.wgsl"),
    configs: dequantize::configs,
};
