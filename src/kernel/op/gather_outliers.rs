//! gather_outliers: the activations of the features of a list, side by side.

use crate::kernel::compose;
use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_outliers",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_outliers.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_stride: u32,
        pub list: u32,
    }
}

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    let parts = vec![compose::input(problem)];
    vec![KernelConfig { parts, loops_per_chunk: 32, ..KernelConfig::new(32) }]
}
