//! permute: activations in the order in which the device has the columns of a weight.

use super::{Caps, Config, Family, Kernel, Operation, Request};

pub(super) static KERNEL: Kernel = Kernel {
    name: "permute",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/permute.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    vec![Config::new(64)]
}
