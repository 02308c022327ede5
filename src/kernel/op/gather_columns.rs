//! gather_columns: some columns of the activations, side by side.

use super::stage::Activated;
use crate::error::Result;
use crate::kernel::compose;
use crate::kernel::limits::{batch_limit, most_groups};
use crate::kernel::program::{Dispatch, Parameters, Plan, Units, View, Window, Workgroups, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_columns",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_columns.wgsl"),
    params: Params::FIELDS,
    configs: one,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
    }
}

pub(super) fn one(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![compose::input(problem)], ..KernelConfig::new(64) }]
}

/// `y[n, chosen] = x[n, list]` for activations x and a list of columns in a slot. The dispatches
/// read no weights; `w` is whatever takes x besides.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row of x exceeds a binding.
pub(crate) fn add(plan: &mut Plan, w: &Weight, x: View, y: View, list: Window) -> Result<()> {
    for block in blocks(plan, w, x, y)? {
        let (given, to, y_offset) = ends(plan, x, y, block.clone());
        let params =
            Params { x_offset: given.offset, x_stride: given.stride, y_offset, y_stride: y.stride as u32 };
        let candidate = KERNEL.first(plan.caps(), &given.problem(Problem::default()));
        let elements = y.width() as u32;
        let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements };
        let dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", given.window);
        plan.push(Units::of(block), vec![dispatch.slot("y", to).slot("list", list)])?;
    }
    Ok(())
}

/// Blocks of a kernel with a lane for each element of y.
pub(super) fn blocks(plan: &Plan, w: &Weight, x: View, y: View) -> Result<Vec<Range<usize>>> {
    if w.rows == 0 || y.width() == 0 {
        return Ok(vec![]);
    }
    let lanes = KERNEL.only(plan.caps()).config.workgroup as usize;
    let by_groups = most_groups(plan.caps()).saturating_mul(lanes) / y.width();
    let most = batch_limit(w, x.stride.max(y.stride), plan.caps())?.min(by_groups).max(1);
    Ok(plan.blocks(most))
}

/// What such a kernel reads and writes of a block, and the element of y where it starts.
pub(super) fn ends(plan: &Plan, x: View, y: View, block: Range<usize>) -> (Activated, Window, u32) {
    let (to, y_offset) = y.window(block.clone(), 0..y.width(), plan.caps());
    (Activated::given(x, block, plan), to, y_offset)
}
