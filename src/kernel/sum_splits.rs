//! sum_splits: adds up what the splits of a matmul left.

use super::{Caps, Config, Family, Kernel, Operation, Request};

pub static KERNEL: Kernel = Kernel {
    name: "sum_splits",
    operation: Operation::Sum,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/sum_splits.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    vec![Config::new(64)]
}
