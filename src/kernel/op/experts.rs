//! A mixture of experts as dispatches: the columns are sorted by their experts, and each tile of y
//! belongs to one.

use super::matmul::{FLOATS, check_columns, check_planned};
use super::product::{Output, Product, Routed, Tiles, multiply};
use super::round_results_f16::{RowList, Rows};
use super::{round_results_f16, route_experts, stage};
use crate::error::Result;
use crate::kernel::limits::{batch_limit, binding_elements, most_groups, too_wide};
use crate::kernel::program::{Plan, Step, Units, View};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, KernelConfig, MatmulOptions, Problem};

/// `y[n, per, m] = x[n, k] · w[experts[n, per]]ᵀ` for the m rows of one expert; the experts of a
/// token are u32 in a view of their own. A column whose expert does not exist is not written.
/// Columns of y are next to each other: its view has a width of m for each of them.
///
/// # Errors
/// As [`matmul::add`](super::matmul::add).
pub(crate) fn add(
    plan: &mut Plan,
    w: Weight,
    x: View,
    experts: View,
    y: View,
    options: &MatmulOptions,
) -> Result<()> {
    options.activations.check_experts(w.name)?;
    let (per, rows) = (experts.width(), w.rows / w.experts.max(1));
    plan.check_view(&format!("activations for `{}`", w.name), x, w.cols, FLOATS)?;
    plan.check_numbers(&format!("experts for `{}`", w.name), experts, per)?;
    plan.check_view(&format!("results of `{}`", w.name), y, rows, FLOATS)?;
    let tokens = plan.tokens().most();
    check_planned(&w, tokens.saturating_mul(per))?;
    if rows == 0 || per == 0 || tokens == 0 {
        return Ok(());
    }
    check_columns(&w)?;
    if w.experts == 1 && w.shards.len() > 1 {
        // Shards end between experts; a single one is cut like any weight.
        let what = format!("the one expert of `{}`", w.name);
        return Err(too_wide(what, rows * w.cols, binding_elements(plan.caps())));
    }
    let one = Weight { rows, ..w };
    // A column takes up to nine words of the sorted columns: its own and two tiles.
    let widest = stage::words(w.cols, options.activations).max(x.stride).max(y.stride);
    let bindings = batch_limit(&one, widest, plan.caps())?.min(binding_elements(plan.caps()) / 9);
    let most = bindings.min(route_experts::most_columns(&w, plan.caps())) / per;
    if most == 0 {
        let what = format!("{per} columns of y for `{}`", w.name);
        return Err(too_wide(what, per * rows, binding_elements(plan.caps())));
    }
    let list = Some(RowList { numbers: experts, exist: w.experts });
    round_results_f16::around(plan, w.name, Output::of(y), Rows { per, list }, |plan, output| {
        for block in plan.blocks(most) {
            let x = stage::add(plan, &w, x, block.clone(), options.activations)?;
            let block = block.start * per..block.end * per;
            let of_one = Problem::of(w.layout, rows, w.cols, 0);
            let problem = x.problem(Problem { activations: options.activations, experts: true, ..of_one });
            let product = Product { w, block: block.clone(), x, output, problem, list: None, options };
            let units = Units { per, shares: w.experts, ..Units::of(block.clone()) };
            plan.push_pieces(
                units,
                |planner, left| {
                    // About as many columns for each expert.
                    let batch = left.div_ceil(w.experts).max(1);
                    let problem = Problem { batch, ..problem };
                    let candidate = planner.choose(w.layout.format, &problem, options)?;
                    let most = most_columns(&one, &candidate.config, per, &planner.caps);
                    Ok((candidate, Step { multiple: 1, most }))
                },
                |plan, candidate, most| {
                    let columns = candidate.config.columns;
                    let (route, routes) =
                        route_experts::dispatch(plan, &w, experts, block.clone(), most, columns);
                    let mut dispatches = vec![route];
                    for shard in 0..w.shards.len() {
                        let (block, routed) = (block.clone(), Some(Routed { routes, per }));
                        let tiles = Tiles { shard, rows, most, block, features: 0..rows, routed };
                        dispatches.append(&mut multiply(plan, &product, &tiles, candidate)?);
                    }
                    Ok(dispatches)
                },
            )?;
        }
        Ok(())
    })
}

/// Columns for which there are workgroups for every tile, however the columns fall on experts of
/// the rows of `one`.
fn most_columns(one: &Weight, config: &KernelConfig, per: usize, caps: &Caps) -> usize {
    let tiles = most_groups(caps) / one.rows.div_ceil(config.rows as usize).max(1);
    // No more than a tile a column and one an expert, and than two a column.
    let columns = (tiles.saturating_sub(one.experts) * config.columns as usize).max(tiles / 2);
    (columns / per).max(1) * per
}
