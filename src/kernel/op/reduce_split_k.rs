//! reduce_split_k: adds up what the splits of a matmul left.

use super::product;
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

/// The dispatch that adds up the splits that a product with `params` for up to `most` tokens
/// writes; what it reads and writes is to be set.
pub(super) fn dispatch(params: &product::Params, most: usize, silu: bool, caps: &Caps) -> Dispatch {
    let candidate = KERNEL.first(caps, &Problem { silu, ..Problem::default() });
    let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: params.rows };
    let params = Params {
        rows: params.rows,
        accumulate: params.accumulate,
        finish: params.finish,
        y_offset: params.y_offset,
        y_stride: params.y_stride,
        splits: params.splits,
        split_stride: params.rows * most as u32,
        gate_offset: params.gate_offset,
        gate_stride: params.gate_stride,
    };
    Dispatch::new(candidate, &params, workgroups)
}
