//! dequantize: `y[m, k] = w[m, k]`, f32 from packed weights, equal to the CPU decoder bit for bit.

use crate::error::{Error, Result};
use crate::kernel::limits::row_limit;
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Element, Parameters, Plan, View, Workgroups, parameters};
use crate::kernel::shard::{MAX_PLANES, Weight};
use crate::kernel::types::{CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    operation: Operation::Dequantize,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/dequantize.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub plane_offset: [u32; MAX_PLANES],
        pub plane_stride: [u32; MAX_PLANES],
        pub cols: u32,
        pub row_begin: u32,
        pub rows: u32,
        pub chunk_end: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub padding: [u32; 2],
    }
}

/// One invocation decodes 32 weights; `rows` and `columns` do not apply.
pub fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { parts: vec![&parts::ROWS], loops_per_chunk: 40, ..KernelConfig::new(64) }]
}

/// Rows `rows` of `w` as f32 into `y[rows, k]`, a view of one row after the other.
///
/// # Errors
/// [`Error::LimitExceeded`] if one row exceeds a binding; [`Error::Shape`] if there are not so many
/// rows.
pub(crate) fn add(plan: &mut Plan, w: Weight, rows: Range<usize>, y: View) -> Result<()> {
    plan.check_view(&format!("rows of `{}`", w.name), y, w.cols, &[Element::F32])?;
    if rows.start > rows.end || rows.end > w.rows {
        let (what, within) = (format!("rows of `{}`", w.name), format!("within 0..{}", w.rows));
        return Err(Error::shape(what, within, format!("{rows:?}")));
    }
    let candidate = KERNEL.only(plan.caps());
    let step = row_limit(&w, y.stride, &candidate.config, plan.caps())?;
    if w.cols == 0 {
        return Ok(());
    }
    let chunks = w.cols.div_ceil(CHUNK);
    let mut dispatches = vec![];
    for (index, shard) in w.shards.iter().enumerate() {
        let (from, to) = (rows.start.max(shard.rows.start), rows.end.min(shard.rows.end));
        for first in (from..to).step_by(step) {
            let out = first - rows.start..first - rows.start + step.min(to - first);
            let (window, y_offset) = y.window(out.clone(), 0..w.cols, plan.caps());
            let params = Params {
                plane_offset: shard.plane_offset,
                plane_stride: shard.plane_stride,
                cols: w.cols as u32,
                row_begin: (first - shard.rows.start) as u32,
                rows: out.len() as u32,
                chunk_end: chunks as u32,
                y_offset,
                y_stride: y.stride as u32,
                padding: [0; 2],
            };
            let groups = (out.len() * chunks).div_ceil(candidate.config.workgroup as usize) as u32;
            let dispatch = Dispatch::new(candidate.clone(), &params, Workgroups::Fixed(groups));
            dispatches.push(dispatch.decodes(&w, index).slot("y", window));
        }
    }
    plan.push_once(dispatches)
}
