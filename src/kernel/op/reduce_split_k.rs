//! reduce_split_k: adds up what the splits of a matmul left.

use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "reduce_split_k",
    operation: Operation::Sum,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/reduce_split_k.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig::new(64)]
}
