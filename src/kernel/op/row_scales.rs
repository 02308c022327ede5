//! row_scales: the power of two that a kernel with f16 weights takes out of each row.

use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "row_scales",
    operation: Operation::RowScales,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/row_scales.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { workgroup_memory: 64 * 4, ..KernelConfig::new(64) }]
}
