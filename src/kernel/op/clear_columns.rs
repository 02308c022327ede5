//! clear_columns: activations with zeros in some columns.

use crate::error::Result;
use crate::kernel::op::gather_columns::each;
use crate::kernel::plan::Dispatch;
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "clear_columns",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/clear_columns.wgsl"),
    configs: |_: &Caps, _: &Problem| vec![KernelConfig::new(64)],
};

/// `y[n, k]`: `x[n, w.cols]` with zeros in the columns of a mask, which
/// [`Buffer::Columns`](crate::kernel::plan::Buffer::Columns) holds behind `chosen` words. As
/// [`gather_columns::plan`](super::gather_columns::plan).
///
/// # Errors
/// As there.
pub(crate) fn plan(w: Weight, batch: usize, chosen: usize, caps: &Caps) -> Result<Vec<Dispatch>> {
    let mut dispatches = each(&KERNEL, w, batch, w.cols, caps)?;
    dispatches.iter_mut().for_each(|d| d.params.experts[0] = chosen as u32);
    Ok(dispatches)
}
