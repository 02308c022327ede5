//! reduce_split_k: adds up what the splits of a matmul left.

use crate::error::Result;
use crate::kernel::plan::{Buffer, Dispatch, Params, Window};
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "reduce_split_k",
    operation: Operation::Sum,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/reduce_split_k.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig::new(64)]
}

/// The dispatch that adds up the splits that `matmul` writes; the result is to be set.
pub(super) fn plan(name: &str, matmul: &Params, splits: u32, caps: &Caps) -> Result<Dispatch> {
    let candidate = KERNEL.only(caps);
    let elements = matmul.rows as usize * matmul.batch as usize;
    let params = Params {
        rows: matmul.rows,
        batch: matmul.batch,
        groups: elements.div_ceil(candidate.config.workgroup as usize) as u32,
        accumulate: matmul.accumulate,
        y_offset: matmul.y_offset,
        y_stride: matmul.y_stride,
        split_groups: splits,
        split_stride: elements as u32,
        ..Params::default()
    };
    let x = Window::first(Buffer::Partial, elements * splits as usize);
    Ok(Dispatch::new(candidate, params, name, caps)?.reads(x))
}
