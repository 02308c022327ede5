//! gather_act_order: activations in the order in which the device has the columns of a weight.

use super::stage::Activated;
use crate::kernel::compose;
use crate::kernel::program::{Dispatch, Parameters, Plan, Resource, Window, Workgroups, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_act_order",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_act_order.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub x_offset: u32,
        pub x_stride: u32,
    }
}

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![compose::input(problem)], ..KernelConfig::new(64) }]
}

/// The dispatch for activations for `w`.
pub(super) fn dispatch(plan: &Plan, w: &Weight, given: &Activated, to: Window) -> Dispatch {
    let candidate = KERNEL.first(plan.caps(), &given.problem(Problem::default()));
    let cols = w.cols as u32;
    let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: cols };
    let params = Params { cols, x_offset: given.offset, x_stride: given.stride };
    let dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", given.window).slot("y", to);
    dispatch.with("order", Resource::Codebook { weight: w.index })
}
