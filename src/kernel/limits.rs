//! What one dispatch may be: elements of a binding, workgroups of two dimensions, loops, and
//! products before a driver is reset.

use super::shard::Weight;
use super::types::{CHUNK, Caps, KernelConfig};
use crate::error::{Error, Result};

/// Weights that are quantized in one dispatch at most: 64 MiB of f32.
pub(crate) const QUANTIZE_WEIGHTS: usize = 16 << 20;

/// f32 elements that fit one binding wherever the window starts.
pub(super) fn binding_elements(caps: &Caps) -> usize {
    let bytes = caps.max_binding.saturating_sub(u64::from(caps.binding_alignment)).min(u64::from(u32::MAX));
    (bytes / 4) as usize
}

/// Products of one dispatch at most, unless it has few columns: below half a second for a GPU of
/// 140 GFLOP/s. Operating systems reset a driver that is busy for two.
const PRODUCTS: u64 = 1 << 35;
/// [`PRODUCTS`] for a processor of 35 GFLOP/s, which is what Mesa 22.3 makes of two cores.
const SOFTWARE_PRODUCTS: u64 = 1 << 33;
/// Columns that a kernel takes at a time, whatever the weight.
const FEW_COLUMNS: usize = 8;

/// Tokens of one dispatch: whose x and y, at most `widest` words each as they lie, each fit one
/// binding, and whose products take less than half a second.
pub(super) fn batch_limit(w: &Weight, widest: usize, caps: &Caps) -> Result<usize> {
    let most = binding_elements(caps);
    let column = w.rows.max(w.cols).max(widest);
    match most / column.max(1) {
        0 => Err(too_wide(format!("one column of x or y for `{}`", w.name), column, most)),
        columns => Ok(columns.min(brief(w, caps))),
    }
}

/// Batch columns of one dispatch so that it stays below the watchdog of a driver.
fn brief(w: &Weight, caps: &Caps) -> usize {
    let rows = w.shards.iter().map(|s| s.rows.len()).max().unwrap_or(0).min(w.rows);
    let products = if caps.software { SOFTWARE_PRODUCTS } else { PRODUCTS };
    columns_within(products, rows, w.cols).max(FEW_COLUMNS)
}

/// Columns that a weight of this shape can be multiplied with in one dispatch of a GPU.
pub fn columns_of_a_dispatch(rows: usize, cols: usize) -> usize {
    columns_within(PRODUCTS, rows, cols)
}

/// The same for so many products. They are counted in u64: a `usize` has 32 bits in a browser.
fn columns_within(products: u64, rows: usize, cols: usize) -> usize {
    let each = (rows as u64).saturating_mul(cols as u64).max(1);
    usize::try_from(products / each).unwrap_or(usize::MAX)
}

/// Rows of f32, `stride` apart, that fit one binding and one folded grid.
pub(super) fn row_limit(w: &Weight, stride: usize, config: &KernelConfig, caps: &Caps) -> Result<usize> {
    let most = binding_elements(caps);
    let by_grid = most_groups(caps).saturating_mul(config.workgroup as usize) / w.cols.div_ceil(CHUNK).max(1);
    match (most / w.cols.max(stride).max(1)).min(by_grid) {
        0 => Err(too_wide(format!("one row of `{}` as f32", w.name), w.cols, most)),
        rows => Ok(rows),
    }
}

pub(super) fn too_wide(what: String, elements: usize, limit: usize) -> Error {
    let bytes = |elements: usize| (elements as u64).saturating_mul(4);
    Error::LimitExceeded { what, wanted: bytes(elements), limit: bytes(limit) }
}

/// Batch columns for which the folded grid holds every workgroup.
pub(super) fn grid_limit(w: &Weight, config: &KernelConfig, caps: &Caps) -> usize {
    let row_groups =
        w.shards.iter().map(|s| s.rows.len()).max().unwrap_or(0).div_ceil(config.rows as usize).max(1);
    (most_groups(caps) / row_groups).max(1) * config.columns as usize
}

/// Workgroups of a folded grid of which no dispatch should have more.
pub(super) fn most_groups(caps: &Caps) -> usize {
    (caps.max_groups as usize).saturating_mul(caps.max_groups as usize).min(1 << 24)
}

/// `groups` workgroups in two dimensions of at most `most` each, which hold them: see
/// [`check_workgroups`].
pub(crate) fn fold(groups: u64, most: u32) -> [u32; 2] {
    let x = groups.clamp(1, u64::from(most).max(1));
    [x as u32, groups.div_ceil(x).max(1) as u32]
}

/// Refuses more workgroups than two dimensions hold.
pub(super) fn check_workgroups(name: &str, groups: u64, caps: &Caps) -> Result<()> {
    let limit = (u64::from(caps.max_groups) * u64::from(caps.max_groups)).min(u64::from(u32::MAX));
    match groups <= limit {
        true => Ok(()),
        false => {
            let what = format!("workgroups for `{name}`");
            Err(Error::LimitExceeded { what, wanted: groups, limit })
        }
    }
}

/// Chunks that one dispatch may sum before the driver stops its loops.
pub(super) fn chunk_limit(config: &KernelConfig, caps: &Caps) -> u32 {
    match caps.max_loops {
        None => u32::MAX,
        Some(loops) => (loops / config.loops_per_chunk).max(1).saturating_mul(config.lanes_along_k),
    }
}
