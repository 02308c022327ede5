//! outlier_list: the numbers of the features that a mask names.

use super::{Caps, Config, Family, Kernel, Operation, Request};

pub(super) static KERNEL: Kernel = Kernel {
    name: "outlier_list",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/outlier_list.wgsl"),
    configs,
};

/// Words before the first number: the count, and what aligns the rest.
pub(super) const HEADER_WORDS: usize = 4;

fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    vec![Config { workgroup_memory: 64 * 4, ..Config::new(64) }]
}
