//! reduce_split_k: adds up what the splits of a matmul left.

use crate::kernel::compose;
use crate::kernel::program::{Dispatch, Parameters, Workgroups, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "reduce_split_k",
    operation: Operation::Sum,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/reduce_split_k.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub rows: u32,
        pub accumulate: u32,
        pub finish: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub splits: u32,
        pub split_stride: u32,
        pub gate_offset: u32,
        pub gate_stride: u32,
    }
}

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![compose::finish(problem)], ..KernelConfig::new(64) }]
}

/// The dispatch with these parameters, `silu` if there is a gate; what it reads and writes is to be
/// set.
pub(super) fn dispatch(params: &Params, silu: bool, caps: &Caps) -> Dispatch {
    let candidate = KERNEL.first(caps, &Problem { silu, ..Problem::default() });
    let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: params.rows };
    Dispatch::new(candidate, params, workgroups)
}
