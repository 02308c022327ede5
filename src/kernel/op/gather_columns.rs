//! gather_columns: some columns of the activations, side by side.

use crate::error::Result;
use crate::kernel::plan::{self, Buffer, Dispatch, Params};
use crate::kernel::types::{Activations, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_columns",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_columns.wgsl"),
    configs: |_: &Caps, _: &Problem| vec![KernelConfig::new(64)],
};

/// `y[n, chosen] = x[n, list]` for `x[n, w.cols]` and a list of columns in [`Buffer::Columns`]. The dispatches read no weights; `w` is
/// whatever is multiplied by y.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row of x exceeds a binding.
pub(crate) fn plan(w: plan::Weight, (batch, chosen): (usize, usize), caps: &Caps) -> Result<Vec<Dispatch>> {
    each(&KERNEL, w, (batch, chosen), caps)
}

/// A kernel with one invocation for each element of `y[n, cols]`.
pub(in crate::kernel) fn each(
    kernel: &'static Kernel,
    w: plan::Weight,
    (batch, cols): (usize, usize),
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    let config = plan::only_config(kernel, caps);
    let mut dispatches = vec![];
    if w.rows == 0 || batch == 0 || cols == 0 {
        return Ok(dispatches);
    }
    let by_grid = plan::most_groups(caps).saturating_mul(config.workgroup as usize) / cols;
    let most = plan::batch_limit(&w, Activations::F32, caps)?.min(by_grid).max(1);
    for first in (0..batch).step_by(most) {
        let end = batch.min(first + most);
        let groups = ((end - first) * cols).div_ceil(config.workgroup as usize) as u32;
        let (x, x_offset) = plan::window(Buffer::X, first * w.cols..end * w.cols, caps);
        let (y, y_offset) = plan::window(Buffer::Y, first * cols..end * cols, caps);
        let params = Params {
            batch: (end - first) as u32,
            groups,
            x_offset,
            x_stride: w.cols as u32,
            y_offset,
            y_stride: cols as u32,
            ..Params::default()
        };
        let grid = plan::fold(w.name, groups, caps)?;
        let (config, side) = (config.clone(), Some(Buffer::Columns));
        dispatches.push(Dispatch { kernel, config, shard: 0, params, grid, x, y, side });
    }
    Ok(dispatches)
}
