//! gather_act_order: activations in the order in which the device has the columns of a weight.

use crate::error::Result;
use crate::kernel::plan::{Activated, Buffer, Dispatch, Params, Window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "gather_act_order",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gather_act_order.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig::new(64)]
}

/// The dispatch for `batch` columns of activations for `w`.
pub(super) fn plan(w: &Weight, batch: usize, given: Activated, caps: &Caps) -> Result<Dispatch> {
    let candidate = KERNEL.only(caps);
    let elements = batch * w.cols;
    let params = Params {
        cols: w.cols as u32,
        batch: batch as u32,
        groups: elements.div_ceil(candidate.config.workgroup as usize) as u32,
        x_offset: given.offset,
        x_stride: given.stride,
        ..Params::default()
    };
    let y = Window::first(Buffer::Ordered, elements);
    Ok(Dispatch::new(candidate, params, w.name, caps)?.reads(given.window).writes(y))
}
