//! round_results_f16: results of f32 as f16, or added to what is there.

use super::product::Output;
use crate::error::{Error, Result};
use crate::kernel::limits::{binding_elements, too_wide};
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Element, Parameters, Plan, Units, View, Workgroups, parameters};
use crate::kernel::types::{Candidate, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "round_results_f16",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/round_results_f16.wgsl"),
    params: Params::FIELDS,
    configs: |_: &Caps, _: &Problem| [false, true].map(config).into(),
};

/// How the kernel is compiled where a list tells which rows of the results were written, or not.
fn config(listed: bool) -> KernelConfig {
    let written = if listed { &parts::WRITTEN_LISTED } else { &parts::WRITTEN_ALL };
    KernelConfig { parts: vec![&parts::HALVES, written], ..KernelConfig::new(64) }
}

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
        pub list: u32,
        pub exist: u32,
    }
}

/// The rows of results.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// How many a token has.
    pub per: usize,
    /// What tells which of them are written, if not all are.
    pub list: Option<RowList>,
}

/// A number for each row of the results, next to each other: of what the row is made of.
#[derive(Clone, Copy)]
pub(super) struct RowList {
    pub numbers: View,
    /// How many numbers exist. A row with another number keeps its values.
    pub exist: usize,
}

impl Rows {
    /// One a token, all written.
    pub const ALL: Self = Self { per: 1, list: None };
}

/// Calls `add` with an output of f32: the given one, or one whose results are rounded into it.
/// `name` is that of the weight.
///
/// # Errors
/// Those of `add`; [`Error::Argument`] if tokens of f16 results do not start at words,
/// [`Error::LimitExceeded`] if one exceeds a binding.
pub(super) fn around(
    plan: &mut Plan,
    name: &str,
    output: Output,
    rows: Rows,
    add: impl FnOnce(&mut Plan, Output) -> Result<()>,
) -> Result<()> {
    if output.y.element() == Element::F32 {
        return add(plan, output);
    }
    let sums = plan.scratch_view("results before rounding", output.y.width());
    add(plan, Output { y: sums, accumulate: false, ..output })?;
    round(plan, name, sums, output, rows)
}

fn round(plan: &mut Plan, name: &str, x: View, output: Output, rows: Rows) -> Result<()> {
    let (y, per) = (output.y, rows.per);
    // A word of two halves that belong to two tokens would be written by two lanes.
    if !y.first.is_multiple_of(2) || !y.stride.is_multiple_of(2) {
        let (first, stride) = (y.first, y.stride);
        return Err(Error::Argument(format!(
            "f16 results start at words: element {first} and a stride of {stride} are not both even"
        )));
    }
    let words = y.width().div_ceil(2) as u32;
    let (limit, widest) = (binding_elements(plan.caps()), x.stride.max(y.stride).saturating_mul(per));
    let most = limit / widest.max(1);
    if most == 0 {
        return Err(too_wide(format!("one token of f16 results of `{name}`"), widest, limit));
    }
    for tokens in plan.blocks(most) {
        let block = tokens.start * per..tokens.end * per;
        let (from, x_offset) = x.window(block.clone(), 0..x.width(), plan.caps());
        let (to, y_offset) = y.window(block.clone(), 0..y.width(), plan.caps());
        let list = rows.list.map(|list| {
            let one = View { stride: 1, width: 1, ..list.numbers };
            (one.window(block.clone(), 0..1, plan.caps()), list.exist as u32)
        });
        let params = Params {
            width: y.width() as u32,
            words,
            accumulate: output.accumulate.into(),
            x_offset,
            x_stride: x.stride as u32,
            y_offset,
            y_stride: y.stride as u32,
            list: list.map_or(0, |((_, offset), _)| offset),
            exist: list.map_or(0, |(_, exist)| exist),
        };
        let candidate = Candidate { kernel: &KERNEL, config: config(list.is_some()) };
        let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: words };
        let mut dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", from).slot("y", to);
        if let Some(((window, _), _)) = list {
            dispatch = dispatch.slot("list", window);
        }
        plan.push(Units { per, ..Units::of(block) }, vec![dispatch])?;
    }
    Ok(())
}
