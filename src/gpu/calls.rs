//! The calls that wait for a result, each written once; [`super::waiting`] says how they become
//! blocking and async forms.

use super::context::Context;
use super::program::Slice;
use super::run::Task;
use super::time::{self, Timing};
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::{MatmulOptions, limits, shapes};
use crate::tensor::check_finite;
use std::ops::Range;

/// f32 elements of x or y that one submission moves at most (256 MiB).
const BATCH_ELEMENTS: usize = 64 << 20;

pub(super) async fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
    context: &Context,
    slice: &Slice,
) -> Result<Vec<T>> {
    let (encoder, staging, words) = context.copy_of(slice)?;
    let words = transfer::submit_and_read(context, encoder, &staging, words).await?;
    Ok(bytemuck::pod_collect_to_vec(&words))
}

pub(super) async fn matmul(
    context: &Context,
    w: &Weights,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Vec<f32>> {
    let mut y = vec![];
    for part in batches(context, w, x)? {
        y.append(&mut context.run(w, &Task::Matmul(part, options), 0).await?);
    }
    Ok(y)
}

pub(super) async fn matmul_experts(
    context: &Context,
    w: &Weights,
    x: &[f32],
    experts: &[u32],
    options: &MatmulOptions,
) -> Result<Vec<f32>> {
    let n = shapes::batch(w.name(), w.cols(), x.len())?;
    check_finite(&format!("activations for `{}`", w.name()), x)?;
    shapes::check_experts(w.name(), w.experts(), n, experts)?;
    context.run(w, &Task::Experts(x, experts, options), 0).await
}

pub(super) async fn dequantize_rows(context: &Context, w: &Weights, rows: Range<usize>) -> Result<Vec<f32>> {
    context.owns(w)?;
    if rows.start > rows.end || rows.end > w.rows() {
        return Err(Error::shape(
            format!("rows of `{}`", w.name()),
            format!("within 0..{}", w.rows()),
            format!("{rows:?}"),
        ));
    }
    let (mut out, end) = (vec![], rows.end);
    let step = rows_at_once(w);
    for first in rows.step_by(step) {
        out.append(&mut context.run(w, &Task::Dequantize(first..end.min(first + step)), 0).await?);
    }
    Ok(out)
}

pub(super) async fn get_rows(context: &Context, w: &Weights, rows: &[u32]) -> Result<Vec<f32>> {
    context.check()?;
    if let Some(at) = rows.iter().position(|row| *row as usize >= w.rows()) {
        let what = format!("row number {at} for `{}`", w.name());
        return Err(Error::shape(what, format!("below {}", w.rows()), rows[at]));
    }
    let mut out = vec![];
    for part in rows.chunks(rows_at_once(w)) {
        out.append(&mut context.run(w, &Task::GetRows(part), 0).await?);
    }
    Ok(out)
}

pub(super) async fn time_matmul_of(
    context: &Context,
    weights: &[Weights],
    x: &[f32],
    options: &MatmulOptions,
    least: f64,
) -> Result<Timing> {
    let columns = |w: &Weights| shapes::batch(w.name(), w.cols(), x.len());
    let n = weights.iter().map(columns).next().unwrap_or(Ok(0))?;
    for w in weights {
        if columns(w)? != n {
            let what = format!("columns of activations for `{}`", w.name());
            return Err(Error::shape(what, n, columns(w)?));
        }
    }
    time::matmul_of(context, weights, (x, n), options, least).await
}

/// `x` in parts that one submission moves.
pub(super) fn batches<'x>(context: &Context, w: &Weights, x: &'x [f32]) -> Result<Vec<&'x [f32]>> {
    context.check()?;
    let n = shapes::batch(w.name(), w.cols(), x.len())?;
    check_finite(&format!("activations for `{}`", w.name()), x)?;
    let columns = columns_at_once(w.rows(), w.cols());
    Ok(if n == 0 { vec![] } else { x.chunks(columns * w.cols()).collect() })
}

/// Rows that one submission moves.
fn rows_at_once(w: &Weights) -> usize {
    (BATCH_ELEMENTS / w.cols().max(1)).max(1)
}

/// Columns of a batch that one submission multiplies with a weight of this shape: no more products
/// than one dispatch may have, so that a driver is never silent for long.
fn columns_at_once(rows: usize, cols: usize) -> usize {
    let by_elements = BATCH_ELEMENTS / cols.max(rows).max(1);
    by_elements.min(limits::columns_of_a_dispatch(rows, cols)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_bounded() {
        for (rows, cols) in [(128_256, 4096), (53_248, 16_384), (4096, 4096), (1, 1), (1 << 30, 1), (0, 7)] {
            let columns = columns_at_once(rows, cols);
            assert!(
                columns * rows.max(cols) <= BATCH_ELEMENTS.max(rows.max(cols)),
                "{rows} x {cols}: {columns}"
            );
            assert!(columns * rows * cols <= 1 << 35, "{rows} x {cols}: {columns}");
        }
        // Products are the bound of a large output matrix, not memory: 65 columns instead of 523.
        assert_eq!(columns_at_once(128_256, 4096), 65);
        // What is larger than all bounds goes a column at a time.
        assert_eq!(columns_at_once(1 << 20, 1 << 20), 1);
    }
}
