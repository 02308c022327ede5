//! quantize_activations_int8: activations as integers with a scale for each column of the batch,
//! outliers left out.

use crate::kernel::compose;
use crate::kernel::parts;
use crate::kernel::program::{Parameters, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_int8",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_int8.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub chunk_end: u32,
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
        parts: [int8_parts(problem), vec![left_out(masked)]].concat(),
        workgroup_memory: 64 * 4,
        loops_per_chunk: 48,
        ..KernelConfig::new(64)
    }
}

/// The parts of the kernels that make integers of activations.
pub(super) fn int8_parts(problem: &Problem) -> Vec<&'static parts::Part> {
    vec![
        &parts::CODE_PLACE,
        &parts::HALVES,
        &parts::OUTLIER,
        &parts::LARGEST,
        compose::input(problem),
        &parts::INT8,
    ]
}

/// The part that knows the features that are left out for the sake of any token, if they are.
fn left_out(masked: bool) -> &'static parts::Part {
    if masked { &parts::OUTLIERS_MASK } else { &parts::OUTLIERS_NONE }
}
