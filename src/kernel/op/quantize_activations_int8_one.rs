//! quantize_activations_int8_one: all that LLM.int8 does to the activations of one column.

use crate::kernel::parts;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8_one",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8_one.wgsl"),
    configs,
};

const LANES: u32 = 64;

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    let parts = vec![&parts::HALVES, &parts::LARGEST, &parts::INT8];
    vec![KernelConfig {
        parts,
        workgroup_memory: 2 * LANES * 4,
        loops_per_chunk: 96,
        ..KernelConfig::new(LANES)
    }]
}
