//! get_rows: `y[i, k] = w[rows[i], k]`, the look-up of token embeddings.

use super::dequantize;
use super::product::Output;
use super::round_results_f16::{self, RowList, Rows};
use crate::error::Result;
use crate::kernel::limits::row_limit;
use crate::kernel::op::matmul::FLOATS;
use crate::kernel::program::{Dispatch, Parameters, Plan, Units, View, Workgroups, parameters};
use crate::kernel::shard::{MAX_PLANES, Weight};
use crate::kernel::types::{CHUNK, Family, Kernel, Operation};

pub static KERNEL: Kernel = Kernel {
    name: "get_rows",
    operation: Operation::GetRows,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/get_rows.wgsl"),
    params: Params::FIELDS,
    configs: dequantize::configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub plane_offset: [u32; MAX_PLANES],
        pub plane_stride: [u32; MAX_PLANES],
        pub rows: u32,
        pub cols: u32,
        pub row_begin: u32,
        pub chunk_end: u32,
        pub x_offset: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub padding: u32,
    }
}

/// Rows `rows[i]` of `w` into `y[n, k]`. The row numbers are u32, one a token; where there is no
/// such row, y keeps its values.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if one row exceeds a binding;
/// [`Error::Shape`](crate::Error::Shape) if views do not fit the weight.
pub(crate) fn add(plan: &mut Plan, w: Weight, rows: View, y: View) -> Result<()> {
    plan.check_numbers(&format!("row numbers for `{}`", w.name), rows, 1)?;
    plan.check_view(&format!("rows of `{}`", w.name), y, w.cols, FLOATS)?;
    if w.cols == 0 || plan.tokens().most() == 0 {
        return Ok(());
    }
    let candidate = KERNEL.only(plan.caps());
    let step = row_limit(&w, y.stride, &candidate.config, plan.caps())?;
    let chunks = w.cols.div_ceil(CHUNK) as u32;
    let list = Some(RowList { numbers: rows, exist: w.rows });
    round_results_f16::around(plan, w.name, Output::of(y), Rows { per: 1, list }, |plan, Output { y, .. }| {
        for block in plan.blocks(step) {
            let (x, x_offset) = rows.window(block.clone(), 0..1, plan.caps());
            let (to, y_offset) = y.window(block.clone(), 0..w.cols, plan.caps());
            let one = |(index, shard): (usize, &crate::kernel::shard::Shard)| {
                let params = Params {
                    plane_offset: shard.plane_offset,
                    plane_stride: shard.plane_stride,
                    rows: shard.rows.len() as u32,
                    cols: w.cols as u32,
                    row_begin: shard.rows.start as u32,
                    chunk_end: chunks,
                    x_offset,
                    y_offset,
                    y_stride: y.stride as u32,
                    padding: 0,
                };
                let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: chunks };
                let dispatch = Dispatch::new(candidate.clone(), &params, workgroups).decodes(&w, index);
                dispatch.slot("x", x).slot("y", to)
            };
            let dispatches = w.shards.iter().enumerate().map(one).collect();
            plan.push(Units::of(block), dispatches)?;
        }
        Ok(())
    })
}
