//! quantize_activations_int8: activations as integers with a scale for each column of the batch,
//! outliers left out.

use crate::kernel::parts;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        parts: vec![&parts::HALVES, &parts::LARGEST, &parts::INT8],
        workgroup_memory: 64 * 4,
        loops_per_chunk: 48,
        ..KernelConfig::new(64)
    }]
}
