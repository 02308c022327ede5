//! route_experts: sorts the columns of a batch by their experts.

use crate::kernel::program::{Dispatch, Parameters, Plan, View, Window, Workgroups, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub static KERNEL: Kernel = Kernel {
    name: "route_experts",
    operation: Operation::Route,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/route_experts.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub x_offset: u32,
        pub experts: u32,
    }
}

/// Lanes of the one workgroup; each takes an expert at a time.
const EXPERTS: u32 = 64;

/// The plan sets the constant: the columns of a workgroup of the matmul.
fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        constants: vec![("COLS", 8)],
        workgroup_memory: EXPERTS * 4,
        ..KernelConfig::new(EXPERTS)
    }]
}

/// The dispatch that sorts up to `most` columns of a block by their experts into tiles of `width`
/// columns, and where it leaves them.
pub(super) fn dispatch(
    plan: &mut Plan,
    w: &Weight,
    experts: View,
    block: Range<usize>,
    most: usize,
    width: u32,
) -> (Dispatch, Window) {
    let mut candidate = KERNEL.only(plan.caps());
    candidate.config.constants = vec![("COLS", width)];
    // One after the other, whatever token they belong to.
    let columns = View { stride: 1, width: 1, ..experts };
    let (x, x_offset) = columns.window(block, 0..1, plan.caps());
    let tiles = most / width as usize + w.experts.min(most);
    let routes = Window::words(plan.scratch("sorted columns"), 0..most + 4 * tiles);
    let params = Params { x_offset, experts: w.experts as u32 };
    let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(1)).slot("x", x).slot("y", routes);
    (dispatch, routes)
}

/// Columns that one dispatch sorts before a driver stops its loops.
pub(super) fn most_columns(w: &Weight, caps: &Caps) -> usize {
    let rounds = w.experts.div_ceil(EXPERTS as usize).max(1);
    let loops = caps.max_loops.map_or(usize::MAX, |loops| loops as usize / rounds);
    // Two passes over the columns, one over the lanes, one over the tiles.
    (loops.saturating_sub(2 * EXPERTS as usize) / 4).max(1)
}
