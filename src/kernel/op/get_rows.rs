//! get_rows: `y[i, k] = w[rows[i], k]`, the look-up of token embeddings.

use super::dequantize;
use crate::error::Result;
use crate::kernel::limits::row_limit;
use crate::kernel::plan::{Buffer, Dispatch, Params, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, Operation};

pub static KERNEL: Kernel = Kernel {
    name: "get_rows",
    operation: Operation::GetRows,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/get_rows.wgsl"),
    configs: dequantize::configs,
};

/// Rows `rows[i]` of `w`, `count` of them, as f32 into `y[count, k]`. The row numbers are u32 in x.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row exceeds a binding.
pub(crate) fn plan(w: Weight, count: usize, caps: &Caps) -> Result<Vec<Dispatch>> {
    let candidate = KERNEL.only(caps);
    let step = row_limit(&w, &candidate.config, caps)?;
    let mut plan = vec![];
    if w.cols == 0 {
        return Ok(plan);
    }
    for first in (0..count).step_by(step) {
        let out = first..count.min(first + step);
        let (x, x_offset) = window(Buffer::X, out.clone(), caps);
        for (index, shard) in w.shards.iter().enumerate() {
            let own = Params { row_begin: shard.rows.start as u32, x_offset, ..Params::default() };
            let dispatch = dequantize::into_rows(&w, index, out.clone(), candidate.clone(), own, caps)?;
            plan.push(dispatch.reads(x));
        }
    }
    Ok(plan)
}
