//! The product of one shard with activations that are ready for the kernel: tiles of y, in ranges
//! and splits of k.

use super::reduce_split_k;
use crate::error::Result;
use crate::kernel::limits::{binding_elements, chunk_limit, grid_limit, most_groups};
use crate::kernel::plan::{Activated, Buffer, Dispatch, Params, Window, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{CHUNK, Candidate, Caps, KernelConfig};
use std::ops::Range;

/// The tiles of one shard and some columns.
pub(in crate::kernel) struct Tiles {
    pub shard: usize,
    /// Rows of the matrix, or of each expert.
    pub rows: usize,
    /// Columns of y.
    pub batch: usize,
    /// Tiles along the columns.
    pub columns: usize,
    pub experts: [u32; 4],
    /// What the kernel reads besides.
    pub side: Option<Buffer>,
    /// Add to what y holds.
    pub accumulate: bool,
    pub y: (Window, u32),
    pub y_stride: usize,
}

impl Tiles {
    /// Those of a whole shard and these columns, which overwrite y.
    pub fn of(w: &Weight, index: usize, columns: Range<usize>, config: &KernelConfig, caps: &Caps) -> Self {
        let shard = &w.shards[index];
        let y_first = columns.start * w.rows + shard.rows.start;
        let y_last = (columns.end - 1) * w.rows + shard.rows.end;
        Self {
            shard: index,
            rows: shard.rows.len(),
            batch: columns.len(),
            columns: columns.len().div_ceil(config.columns as usize),
            experts: [0; 4],
            side: None,
            accumulate: false,
            y: window(Buffer::Y, y_first..y_last, caps),
            y_stride: w.rows,
        }
    }

    /// The splits of a configuration, fewer where k, a binding or the workgroups hold no more.
    /// Experts are not split: their columns are not known before they run.
    fn splits(&self, config: &KernelConfig, chunks: u32, split_groups: u32, caps: &Caps) -> u32 {
        if self.experts[1] > 0 {
            return 1;
        }
        let by_binding = binding_elements(caps) / (self.rows * self.batch).max(1);
        let by_groups = most_groups(caps) / split_groups.max(1) as usize;
        config.splits.min(chunks).min(by_binding.min(by_groups).max(1) as u32).max(1)
    }
}

/// How many of `left` columns a configuration takes: whole groups first; what is left gets a kernel
/// compiled for fewer.
pub(in crate::kernel) fn columns_at_once(
    w: &Weight,
    left: usize,
    config: &KernelConfig,
    caps: &Caps,
) -> usize {
    let columns = config.columns as usize;
    let count = if left > columns { left / columns * columns } else { left };
    count.min(grid_limit(w, config, caps))
}

/// Pushes the dispatches of one shard and one range of batch columns: one per range of k.
pub(in crate::kernel) fn multiply(
    plan: &mut Vec<Dispatch>,
    w: &Weight,
    tiles: &Tiles,
    x: Activated,
    candidate: &Candidate,
    caps: &Caps,
) -> Result<()> {
    let config = &candidate.config;
    let row_groups = (tiles.rows as u32).div_ceil(config.rows);
    let split_groups = row_groups * tiles.columns as u32;
    let chunks = w.cols.div_ceil(CHUNK) as u32;
    let splits = tiles.splits(config, chunks, split_groups, caps);
    let step = chunk_limit(config, caps).saturating_mul(splits);
    let mut chunk_begin = 0u32;
    loop {
        let chunk_end = chunks.min(chunk_begin.saturating_add(step));
        let mut params = Params {
            rows: tiles.rows as u32,
            cols: w.cols as u32,
            batch: tiles.batch as u32,
            row_groups,
            groups: split_groups * splits,
            chunk_begin,
            chunk_end,
            accumulate: u32::from(tiles.accumulate || chunk_begin > 0),
            x_offset: x.offset,
            x_stride: x.stride,
            y_offset: tiles.y.1,
            y_stride: tiles.y_stride as u32,
            split_groups,
            split_chunks: (chunk_end - chunk_begin).div_ceil(splits).max(1),
            experts: tiles.experts,
            ..Params::of(&w.shards[tiles.shard])
        };
        let (mut y, mut sum) = (tiles.y.0, None);
        if splits > 1 {
            let dispatch = reduce_split_k::plan(w.name, &params, splits, caps)?;
            y = dispatch.x;
            params = Params {
                accumulate: 0,
                y_offset: 0,
                y_stride: tiles.rows as u32,
                split_stride: dispatch.params.split_stride,
                ..params
            };
            sum = Some(dispatch.on_shard(tiles.shard).writes(tiles.y.0));
        }
        let dispatch = Dispatch::new(candidate.clone(), params, w.name, caps)?;
        plan.push(dispatch.on_shard(tiles.shard).reads(x.window).writes(y).beside(tiles.side));
        plan.extend(sum);
        chunk_begin = chunk_end;
        if chunk_begin == chunks {
            return Ok(());
        }
    }
}
