//! dequantize: `y[m, k] = w[m, k]`, f32 from packed weights, equal to the CPU decoder bit for bit.

use crate::kernel::compose;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    operation: Operation::Dequantize,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/dequantize.wgsl"),
    configs,
};

/// One invocation decodes 32 weights; `rows` and `columns` do not apply.
pub fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![&compose::ROWS], loops_per_chunk: 40, ..KernelConfig::new(64) }]
}
