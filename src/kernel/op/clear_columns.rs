//! clear_columns: activations with zeros in some columns.

use super::gather_columns::{Ends, each, one};
use crate::error::Result;
use crate::kernel::program::{Parameters, Plan, View, Window, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Family, Kernel, Operation};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "clear_columns",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/clear_columns.wgsl"),
    params: Params::FIELDS,
    configs: one,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub mask: u32,
    }
}

/// `y[n, k]`: `x[n, k]` with zeros in the columns of a mask, which `list` holds behind `mask` words.
///
/// # Errors
/// As [`gather_columns::add`](super::gather_columns::add).
pub(crate) fn add(plan: &mut Plan, w: &Weight, x: View, y: View, list: Window, mask: usize) -> Result<()> {
    each(plan, &KERNEL, w, Ends { x, y, list }, |given, y_offset| Params {
        x_offset: given.offset,
        x_stride: given.stride,
        y_offset,
        y_stride: y.stride as u32,
        mask: mask as u32,
    })
}
