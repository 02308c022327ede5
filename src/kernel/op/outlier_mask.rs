//! outlier_mask: the features of a batch that reach a threshold, as bits.

use crate::kernel::parts;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "outlier_mask",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/outlier_mask.wgsl"),
    configs,
};

/// 32 features by two columns on software adapters, where lanes wait for each other at a price, by
/// eight on others.
fn configs(caps: &Caps, _: &Problem) -> Vec<KernelConfig> {
    let lanes = if caps.software { 64 } else { 256.min(caps.max_workgroup / 32 * 32) };
    vec![KernelConfig { parts: vec![&parts::HALVES], workgroup_memory: 4, ..KernelConfig::new(lanes) }]
}
