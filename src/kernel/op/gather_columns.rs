//! gather_columns: some columns of the activations, side by side.

use super::stage::Activated;
use crate::error::Result;
use crate::kernel::compose;
use crate::kernel::limits::{batch_limit, most_groups};
use crate::kernel::program::{Dispatch, Parameters, Plan, Units, View, Window, Workgroups, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

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
    each(plan, &KERNEL, w, Ends { x, y, list }, |given, y_offset| Params {
        x_offset: given.offset,
        x_stride: given.stride,
        y_offset,
        y_stride: y.stride as u32,
    })
}

/// What a kernel with a lane for each element of y reads and writes.
pub(super) struct Ends {
    pub x: View,
    pub y: View,
    pub list: Window,
}

/// Adds such a kernel, with `params` for where its x and its y start.
pub(super) fn each<P: Parameters>(
    plan: &mut Plan,
    kernel: &'static Kernel,
    w: &Weight,
    Ends { x, y, list }: Ends,
    params: impl Fn(&Activated, u32) -> P,
) -> Result<()> {
    if w.rows == 0 || y.width() == 0 {
        return Ok(());
    }
    let lanes = kernel.only(plan.caps()).config.workgroup;
    let by_groups = most_groups(plan.caps()).saturating_mul(lanes as usize) / y.width();
    let most = batch_limit(w, x.stride.max(y.stride), plan.caps())?.min(by_groups).max(1);
    for block in plan.blocks(most) {
        let given = Activated::given(x, block.clone(), plan);
        let (to, y_offset) = y.window(block.clone(), 0..y.width(), plan.caps());
        let candidate = kernel.first(plan.caps(), &given.problem(Problem::default()));
        let workgroups = Workgroups::Lanes { lanes, elements: y.width() as u32 };
        let dispatch = Dispatch::new(candidate, &params(&given, y_offset), workgroups);
        let dispatch = dispatch.slot("x", given.window).slot("y", to).slot("list", list);
        plan.push(Units::of(block), vec![dispatch])?;
    }
    Ok(())
}
