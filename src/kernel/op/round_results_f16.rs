//! round_results_f16: results of f32 as f16, or added to what is there.

use super::product::Output;
use crate::error::{Error, Result};
use crate::kernel::limits::binding_elements;
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Element, Parameters, Plan, Units, View, Workgroups, parameters};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "round_results_f16",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/round_results_f16.wgsl"),
    params: Params::FIELDS,
    configs: |_: &Caps, _: &Problem| {
        vec![KernelConfig { parts: vec![&parts::HALVES], ..KernelConfig::new(64) }]
    },
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub width: u32,
        pub words: u32,
        pub accumulate: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
    }
}

/// Calls `add` with an output of f32: the given one, or one whose results are rounded into it.
///
/// # Errors
/// Those of `add`; [`Error::Argument`] if tokens of f16 results do not start at words.
pub(super) fn around(
    plan: &mut Plan,
    output: Output,
    add: impl FnOnce(&mut Plan, Output) -> Result<()>,
) -> Result<()> {
    if output.y.element() == Element::F32 {
        return add(plan, output);
    }
    let sums = plan.scratch_view("results before rounding", output.y.width());
    add(plan, Output { y: sums, accumulate: false, ..output })?;
    round(plan, sums, output)
}

fn round(plan: &mut Plan, x: View, output: Output) -> Result<()> {
    let y = output.y;
    // A word of two halves that belong to two tokens would be written by two lanes.
    if !y.first.is_multiple_of(2) || !y.stride.is_multiple_of(2) {
        let (first, stride) = (y.first, y.stride);
        return Err(Error::Argument(format!(
            "f16 results start at words: element {first} and a stride of {stride} are not both even"
        )));
    }
    let words = y.width().div_ceil(2) as u32;
    let most = (binding_elements(plan.caps()) / x.stride.max(y.stride).max(1)).max(1);
    for block in plan.blocks(most) {
        let (from, x_offset) = x.window(block.clone(), 0..x.width(), plan.caps());
        let (to, y_offset) = y.window(block.clone(), 0..y.width(), plan.caps());
        let params = Params {
            width: y.width() as u32,
            words,
            accumulate: output.accumulate.into(),
            x_offset,
            x_stride: x.stride as u32,
            y_offset,
            y_stride: y.stride as u32,
        };
        let candidate = KERNEL.only(plan.caps());
        let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: words };
        let dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", from).slot("y", to);
        plan.push(Units::of(block), vec![dispatch])?;
    }
    Ok(())
}
