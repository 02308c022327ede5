//! route_experts: sorts the columns of a batch by their experts.

use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "route_experts",
    operation: Operation::Route,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/route_experts.wgsl"),
    configs,
};

/// Lanes of the one workgroup; each takes an expert at a time.
pub(in crate::kernel) const EXPERTS: u32 = 64;

/// The plan sets the constant: the columns of a workgroup of the matmul.
fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        constants: vec![("COLS", 8)],
        workgroup_memory: EXPERTS * 4,
        ..KernelConfig::new(EXPERTS)
    }]
}
