//! quantize_activations_int8_f32: activations rounded as LLM.int8 does, as f32.

use crate::kernel::parts;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8_f32",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8_f32.wgsl"),
    configs,
};

/// The plan sets the constant: whether there is a mask of the batch.
fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    let parts = vec![&parts::HALVES, &parts::LARGEST, &parts::INT8];
    vec![KernelConfig {
        constants: vec![("MASKED", 0)],
        parts,
        workgroup_memory: 64 * 4,
        ..KernelConfig::new(64)
    }]
}
