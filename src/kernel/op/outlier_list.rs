//! outlier_list: the numbers of the features that a mask names.

use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "outlier_list",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/outlier_list.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub chunk_end: u32,
        pub list: u32,
    }
}

/// Words before the first number: the count, and what aligns the rest.
pub(in crate::kernel) const HEADER_WORDS: usize = 4;

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { workgroup_memory: 64 * 4, ..KernelConfig::new(64) }]
}
