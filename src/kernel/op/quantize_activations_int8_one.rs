//! quantize_activations_int8_one: all that LLM.int8 does to the activations of one column.

use super::quantize_activations_int8::int8_parts;
use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8_one",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8_one.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub chunk_end: u32,
        pub x_offset: u32,
        pub list: u32,
        pub values: u32,
        pub threshold: f32,
    }
}

const LANES: u32 = 64;

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        parts: int8_parts(problem),
        workgroup_memory: 2 * LANES * 4,
        loops_per_chunk: 96,
        ..KernelConfig::new(LANES)
    }]
}
