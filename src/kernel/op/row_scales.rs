//! row_scales: the power of two that a kernel with f16 weights takes out of each row.

use crate::error::Result;
use crate::kernel::plan::{Buffer, Dispatch, Params, Window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "row_scales",
    operation: Operation::RowScales,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/row_scales.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { workgroup_memory: 64 * 4, ..KernelConfig::new(64) }]
}

/// The power of two of each row of a shard that makes its weights fit f16, as f32 into y.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if the shard has more rows than a dispatch
/// has workgroups.
pub(crate) fn plan(w: Weight, shard: usize, caps: &Caps) -> Result<Dispatch> {
    let rows = w.shards[shard].rows.len();
    let params = Params {
        rows: rows as u32,
        cols: w.cols as u32,
        groups: rows as u32,
        chunk_end: w.cols.div_ceil(CHUNK) as u32,
        ..Params::of(&w.shards[shard])
    };
    let y = Window::first(Buffer::Y, rows);
    Ok(Dispatch::new(KERNEL.only(caps), params, w.name, caps)?.on_shard(shard).writes(y))
}
