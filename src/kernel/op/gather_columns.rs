//! gather_columns: some columns of the activations, side by side.

use crate::error::Result;
use crate::kernel::limits::{batch_limit, most_groups};
use crate::kernel::plan::{Buffer, Dispatch, Params, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_columns",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_columns.wgsl"),
    configs: |_: &Caps, _: &Problem| vec![KernelConfig::new(64)],
};

/// `y[n, chosen] = x[n, list]` for `x[n, w.cols]` and a list of columns in [`Buffer::Columns`]. The
/// dispatches read no weights; `w` is whatever is multiplied by y.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row of x exceeds a binding.
pub(crate) fn plan(w: Weight, batch: usize, chosen: usize, caps: &Caps) -> Result<Vec<Dispatch>> {
    each(&KERNEL, w, batch, chosen, caps)
}

/// A kernel with one invocation for each element of `y[batch, cols]`.
pub(super) fn each(
    kernel: &'static Kernel,
    w: Weight,
    batch: usize,
    cols: usize,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    let candidate = kernel.only(caps);
    let lanes = candidate.config.workgroup as usize;
    let mut plan = vec![];
    if w.rows == 0 || batch == 0 || cols == 0 {
        return Ok(plan);
    }
    let by_groups = most_groups(caps).saturating_mul(lanes) / cols;
    let most = batch_limit(&w, w.cols, caps)?.min(by_groups).max(1);
    for first in (0..batch).step_by(most) {
        let end = batch.min(first + most);
        let (x, x_offset) = window(Buffer::X, first * w.cols..end * w.cols, caps);
        let (y, y_offset) = window(Buffer::Y, first * cols..end * cols, caps);
        let params = Params {
            batch: (end - first) as u32,
            groups: ((end - first) * cols).div_ceil(lanes) as u32,
            x_offset,
            x_stride: w.cols as u32,
            y_offset,
            y_stride: cols as u32,
            ..Params::default()
        };
        let dispatch = Dispatch::new(candidate.clone(), params, w.name, caps)?;
        plan.push(dispatch.reads(x).writes(y).beside(Some(Buffer::Columns)));
    }
    Ok(plan)
}
