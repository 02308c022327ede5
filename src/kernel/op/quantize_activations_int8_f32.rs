//! quantize_activations_int8_f32: activations rounded as LLM.int8 does, as f32.

use super::quantize_activations_int8;
use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8_f32",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8_f32.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_stride: u32,
        pub threshold: f32,
    }
}

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    [false, true].map(|masked| config(problem, masked)).into()
}

/// How the kernel is compiled where there is a mask of the outlier features of all tokens, or not.
pub(super) fn config(problem: &Problem, masked: bool) -> KernelConfig {
    KernelConfig {
        constants: vec![("MASKED", masked.into())],
        ..quantize_activations_int8::config(problem, masked)
    }
}
