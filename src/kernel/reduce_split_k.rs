//! reduce_split_k: adds up what the splits of a matmul left.

use super::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "reduce_split_k",
    operation: Operation::Sum,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/reduce_split_k.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig::new(64)]
}
