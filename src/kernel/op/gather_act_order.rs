//! gather_act_order: activations in the order in which the device has the columns of a weight.

use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_act_order",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_act_order.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig::new(64)]
}
