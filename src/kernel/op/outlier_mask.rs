//! outlier_mask: the features of a batch that reach a threshold, as bits.

use crate::kernel::compose;
use crate::kernel::parts;
use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "outlier_mask",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/outlier_mask.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub groups: u32,
        pub accumulate: u32,
        pub threshold: f32,
    }
}

/// 32 features by two columns on software adapters, where lanes wait for each other at a price, by
/// eight on others.
fn configs(caps: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    let lanes = if caps.software { 64 } else { 256.min(caps.max_workgroup / 32 * 32) };
    let parts = vec![&parts::HALVES, &parts::OUTLIER, compose::input(problem)];
    vec![KernelConfig { parts, workgroup_memory: 4, ..KernelConfig::new(lanes) }]
}
