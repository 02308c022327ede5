//! A product as dispatches, split where a device forces it: shards of the weight where it exceeds
//! one binding (done at upload), blocks of tokens where x or y exceed one binding, ranges of k where
//! a driver limits loops.

use super::product::{Output, Product};
use super::round_results_f16::Rows;
use super::{llm_int8, round_results_f16, stage};
use crate::error::{Error, Result};
use crate::kernel::activations::Activations;
use crate::kernel::limits::batch_limit;
use crate::kernel::program::{Element, Plan, View};
use crate::kernel::shard::Weight;
use crate::kernel::types::{MatmulOptions, Problem};

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`, or `y += …`, or `y = silu(gate) ⊙ …`.
///
/// # Errors
/// [`Error::LimitExceeded`] if one column of x or y exceeds a binding; [`Error::Shape`] if views do
/// not fit the weight; [`Error::Argument`] if no kernel does.
pub(crate) fn add(
    plan: &mut Plan,
    w: Weight,
    x: View,
    output: Output,
    options: &MatmulOptions,
) -> Result<()> {
    plan.check_view(&format!("activations for `{}`", w.name), x, w.cols, FLOATS)?;
    plan.check_view(&format!("results of `{}`", w.name), output.y, w.rows, FLOATS)?;
    if let Some(gate) = output.gate {
        plan.check_view(&format!("the gate of `{}`", w.name), gate, w.rows, &[Element::F32])?;
    }
    check_planned(&w, plan.tokens().most())?;
    if w.rows == 0 || plan.tokens().most() == 0 {
        return Ok(());
    }
    check_columns(&w)?;
    round_results_f16::around(plan, w.name, output, Rows::ALL, |plan, output| {
        if let Activations::Int8(threshold) = options.activations {
            return llm_int8::add(plan, w, x, output, threshold, options);
        }
        let gate = output.gate.map_or(0, |gate| gate.stride);
        let widest = stage::words(w.cols, options.activations).max(x.stride).max(output.y.stride).max(gate);
        for block in plan.blocks(batch_limit(&w, widest, plan.caps())?) {
            let x = stage::add(plan, &w, x, block.clone(), options.activations)?;
            let problem = Problem {
                activations: options.activations,
                ..x.problem(Problem::of(w.layout, w.rows, w.cols, 0))
            };
            Product { w, block, x, output, problem, list: None, options }.add(plan)?;
        }
        Ok(())
    })
}

/// f32 elements of x or y that a program is made for at most: more than any buffer holds, and few
/// enough for a list of dispatches.
const PLANNED_ELEMENTS: u64 = 1 << 36;

/// Refuses more tokens than that.
pub(super) fn check_planned(w: &Weight, tokens: usize) -> Result<()> {
    let edge = w.rows.max(w.cols);
    match (tokens as u64).saturating_mul(edge as u64) {
        ..=PLANNED_ELEMENTS => Ok(()),
        wanted => {
            let what = format!("a matmul with `{}` and {tokens} columns of {edge} elements", w.name);
            Err(Error::LimitExceeded { what, wanted, limit: PLANNED_ELEMENTS })
        }
    }
}

/// What activations and results may be.
pub(super) const FLOATS: &[Element] = &[Element::F32, Element::F16];

/// A matmul without columns would be all zeros, which no kernel writes.
pub(super) fn check_columns(w: &Weight) -> Result<()> {
    match w.cols {
        0 => Err(Error::Argument(format!("`{}` has no columns to multiply", w.name))),
        _ => Ok(()),
    }
}
