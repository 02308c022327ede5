//! A mixture of experts as dispatches: the columns are sorted by their experts, and each tile of y
//! belongs to one.

use super::matmul::check_columns;
use super::tiles::{self, Tiles};
use super::{route_experts, stage};
use crate::error::{Error, Result};
use crate::kernel::activations::Activations;
use crate::kernel::limits::{batch_limit, binding_elements, most_groups, too_wide};
use crate::kernel::plan::{Buffer, Choose, Dispatch, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, KernelConfig, Problem};

/// The columns of y of a mixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    /// How many in all.
    pub count: usize,
    /// How many belong to one column of x.
    pub per: usize,
}

/// `y[i] = x[i / per] · w[experts[i]]ᵀ` for the slots of y `[slots, m / experts]`; the expert of
/// each is a u32 in its buffer. A column whose expert does not exist is not written.
///
/// # Errors
/// As [`matmul::plan`](super::matmul::plan); [`Error::Argument`] if the slots are not a multiple of
/// `per`.
pub(crate) fn plan(
    w: Weight,
    slots: Slots,
    activations: Activations,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    activations.check_experts(w.name)?;
    let Slots { count, per } = slots;
    let mut plan = vec![];
    let rows = w.rows / w.experts.max(1);
    if rows == 0 || count == 0 {
        return Ok(plan);
    }
    check_columns(&w)?;
    if per == 0 || !count.is_multiple_of(per) {
        let name = w.name;
        return Err(Error::Argument(format!(
            "{count} columns for the experts of `{name}` are no multiple of {per}"
        )));
    }
    if w.experts == 1 && w.shards.len() > 1 {
        // Shards end between experts; a single one is cut like any weight.
        let what = format!("the one expert of `{}`", w.name);
        return Err(too_wide(what, rows * w.cols, binding_elements(caps)));
    }
    let one = Weight { rows, ..w };
    // A column takes up to nine words of the sorted columns: its own and two tiles.
    let bindings =
        batch_limit(&one, stage::words(w.cols, activations), caps)?.min(binding_elements(caps) / 9);
    let most = bindings.min(route_experts::most_columns(&w, caps)) / per * per;
    if most == 0 {
        let what = format!("{per} columns of y for `{}`", w.name);
        return Err(too_wide(what, per * rows, binding_elements(caps)));
    }
    let mut first = 0;
    while first < count {
        let left = most.min(count - first);
        // About as many columns for each expert.
        let batch = left.div_ceil(w.experts).max(1);
        let of_one = Problem::of(w.layout, rows, w.cols, batch);
        let candidate = choose(&Problem { activations, experts: true, ..of_one })?;
        let config = &candidate.config;
        let columns = first..first + left.min(most_columns(&one, config, per, caps));
        let tiles = columns.len() / config.columns as usize + w.experts.min(columns.len());
        plan.push(route_experts::plan(&w, columns.clone(), tiles, config.columns, caps)?);
        let x = stage::plan(&mut plan, &w, columns.start / per..columns.end / per, activations, caps)?;
        for (index, shard) in w.shards.iter().enumerate() {
            let experts = [shard.rows.start / rows, shard.rows.len() / rows, per, tiles].map(|v| v as u32);
            let tiles = Tiles {
                shard: index,
                rows,
                batch: columns.len(),
                columns: tiles,
                experts,
                side: Some(Buffer::Routes),
                accumulate: false,
                y: window(Buffer::Y, columns.start * rows..columns.end * rows, caps),
                y_stride: rows,
            };
            tiles::multiply(&mut plan, &w, &tiles, x, &candidate, caps)?;
        }
        first = columns.end;
    }
    Ok(plan)
}

/// Columns for which there are workgroups for every tile, however the columns fall on experts of
/// the rows of `one`.
fn most_columns(one: &Weight, config: &KernelConfig, per: usize, caps: &Caps) -> usize {
    let tiles = most_groups(caps) / one.rows.div_ceil(config.rows as usize).max(1);
    // No more than a tile a column and one an expert, and than two a column.
    let columns = (tiles.saturating_sub(one.experts) * config.columns as usize).max(tiles / 2);
    (columns / per).max(1) * per
}
