//! dequantize: `y[m, k] = w[m, k]`, f32 from packed weights, equal to the CPU decoder bit for bit.

use super::{Caps, Config, Family, Kernel, Operation, Request, compose};

pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    operation: Operation::Dequantize,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/dequantize.wgsl"),
    configs,
};

/// One invocation decodes 32 weights; `rows` and `columns` do not apply.
pub fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    vec![Config { parts: vec![&compose::ROWS], loops_per_chunk: 40, ..Config::new(64) }]
}
