//! gather_outliers: the activations of the features of a list, side by side.

use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_outliers",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_outliers.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { loops_per_chunk: 32, ..KernelConfig::new(32) }]
}
