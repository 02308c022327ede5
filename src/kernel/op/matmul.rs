//! A product as dispatches, split where a device forces it: shards of the weight where it exceeds
//! one binding (done at upload), batch columns where x or y exceed one binding, ranges of k where a
//! driver limits loops.

use super::tiles::{self, Tiles, columns_at_once};
use super::{llm_int8, stage};
use crate::error::{Error, Result};
use crate::kernel::activations::Activations;
use crate::kernel::limits::batch_limit;
use crate::kernel::plan::{Choose, Dispatch};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Batch, Caps, Problem};

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`, or `y += …`.
///
/// # Errors
/// [`Error::LimitExceeded`] if one column of x or y exceeds a binding, and those of `choose`.
pub(crate) fn plan(
    w: Weight,
    batch: Batch,
    activations: Activations,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    if let Activations::Int8(threshold) = activations {
        return llm_int8::matmul(w, batch, threshold, choose, caps);
    }
    let mut plan = vec![];
    if w.rows == 0 || batch.columns == 0 {
        return Ok(plan);
    }
    check_columns(&w)?;
    let most = batch_limit(&w, stage::words(w.cols, activations), caps)?;
    let mut first = 0;
    while first < batch.columns {
        let left = (batch.columns - first).min(most);
        let candidate = choose(&Problem { activations, ..Problem::of(w.layout, w.rows, w.cols, left) })?;
        let columns = first..first + columns_at_once(&w, left, &candidate.config, caps);
        let x = stage::plan(&mut plan, &w, columns.clone(), activations, caps)?;
        for index in 0..w.shards.len() {
            let tiles = Tiles::of(&w, index, columns.clone(), &candidate.config, caps);
            let tiles = Tiles { accumulate: batch.accumulate, ..tiles };
            tiles::multiply(&mut plan, &w, &tiles, x, &candidate, caps)?;
        }
        first = columns.end;
    }
    Ok(plan)
}

/// A matmul without columns would be all zeros, which no kernel writes.
pub(super) fn check_columns(w: &Weight) -> Result<()> {
    match w.cols {
        0 => Err(Error::Argument(format!("`{}` has no columns to multiply", w.name))),
        _ => Ok(()),
    }
}
