//! dequantize: `y[m, k] = w[m, k]`, f32 from packed weights, equal to the CPU decoder bit for bit.

use crate::error::Result;
use crate::kernel::limits::row_limit;
use crate::kernel::parts;
use crate::kernel::plan::{Buffer, Dispatch, Params, window};
use crate::kernel::shard::{Shard, Weight};
use crate::kernel::types::{CHUNK, Candidate, Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    operation: Operation::Dequantize,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/dequantize.wgsl"),
    configs,
};

/// One invocation decodes 32 weights; `rows` and `columns` do not apply.
pub fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![&parts::ROWS], loops_per_chunk: 40, ..KernelConfig::new(64) }]
}

/// Rows `rows` of `w` as f32 into `y[rows, k]`.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row exceeds a binding.
pub(crate) fn plan(w: Weight, rows: Range<usize>, caps: &Caps) -> Result<Vec<Dispatch>> {
    let candidate = KERNEL.only(caps);
    let step = row_limit(&w, &candidate.config, caps)?;
    let mut plan = vec![];
    if w.cols == 0 {
        return Ok(plan);
    }
    for (index, shard) in w.shards.iter().enumerate() {
        let (from, to) = (rows.start.max(shard.rows.start), rows.end.min(shard.rows.end));
        for first in (from..to).step_by(step) {
            let out = first - rows.start..first - rows.start + step.min(to - first);
            let own = Params { row_begin: (first - shard.rows.start) as u32, ..Params::default() };
            plan.push(into_rows(&w, index, out, candidate.clone(), own, caps)?);
        }
    }
    Ok(plan)
}

/// A dispatch with one invocation per chunk of the rows `out` of y, with parameters of its own
/// besides.
pub(super) fn into_rows(
    w: &Weight,
    shard: usize,
    out: Range<usize>,
    candidate: Candidate,
    own: Params,
    caps: &Caps,
) -> Result<Dispatch> {
    let chunks = w.cols.div_ceil(CHUNK);
    let (y, y_offset) = window(Buffer::Y, out.start * w.cols..out.end * w.cols, caps);
    let Shard { rows, plane_offset, plane_stride, .. } = &w.shards[shard];
    let params = Params {
        rows: rows.len() as u32,
        cols: w.cols as u32,
        batch: out.len() as u32,
        groups: (out.len() * chunks).div_ceil(candidate.config.workgroup as usize) as u32,
        chunk_end: chunks as u32,
        y_offset,
        y_stride: w.cols as u32,
        plane_offset: *plane_offset,
        plane_stride: *plane_stride,
        ..own
    };
    Ok(Dispatch::new(candidate, params, w.name, caps)?.on_shard(shard).writes(y))
}
