//! clear_columns: activations with zeros in some columns.

use super::gather_columns::{blocks, ends, one};
use crate::error::Result;
use crate::kernel::program::{Dispatch, Parameters, Plan, Units, View, Window, Workgroups, parameters};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Family, Kernel, Operation, Problem};

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
    for block in blocks(plan, w, x, y)? {
        let (given, to, y_offset) = ends(plan, x, y, block.clone());
        let params = Params {
            x_offset: given.offset,
            x_stride: given.stride,
            y_offset,
            y_stride: y.stride as u32,
            mask: mask as u32,
        };
        let candidate = KERNEL.first(plan.caps(), &given.problem(Problem::default()));
        let elements = y.width() as u32;
        let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements };
        let dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", given.window);
        plan.push(Units::of(block), vec![dispatch.slot("y", to).slot("list", list)])?;
    }
    Ok(())
}
