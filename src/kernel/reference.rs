//! The CPU reference: plain loops over decoded rows, sums in f64, rows in parallel.
//!
//! Shapes are checked by [`shapes`], as for a device; the loops behind assume them.
//! A row is summed by one thread in one order, so the bits do not depend on the number of threads.

use super::activations::Activations;
use super::op::stage;
use super::shapes;
use crate::error::Result;
use crate::linear::Linear;
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::ops::Range;

/// `y[n, m] = x[n, k] · w[m, k]ᵀ` with f32 weights as decoded and f64 sums; `n = x.len() / k`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns.
pub fn matmul(w: &PackedTensor, x: &[f32]) -> Result<Vec<f64>> {
    matmul_with(w, x, Activations::F32)
}

/// [`matmul`] with activations rounded as a kernel rounds them: the same codes, exactly.
///
/// # Errors
/// As [`matmul`].
pub fn matmul_with(w: &PackedTensor, x: &[f32], activations: Activations) -> Result<Vec<f64>> {
    let n = shapes::batch_of(w, x)?;
    Ok(products(w, &stage::twin(x, w.cols(), activations), n))
}

/// `y[n, m] = x[n, k] · w[m, k]ᵀ` for activations in f64.
fn products(w: &PackedTensor, x: &[f64], n: usize) -> Vec<f64> {
    let (m, k) = (w.rows(), w.cols());
    let mut by_row = vec![0f64; m * n];
    if !by_row.is_empty() {
        by_row.par_chunks_mut(n).enumerate().for_each_init(
            || vec![0f32; k],
            |weights, (row, y)| {
                w.decode_row(row, weights);
                for (col, y) in y.iter_mut().enumerate() {
                    *y = dot(weights, &x[col * k..(col + 1) * k]);
                }
            },
        );
    }
    transpose(&by_row, m, n)
}

/// `y[n, m] = x[n, k] · w[m, k]ᵀ + bias + x[n, columns] · keptᵀ + Σ s · (x · aᵀ) · bᵀ`
/// in f64, scales and all; activations are rounded for the weight alone.
///
/// # Errors
/// As [`matmul`].
pub fn linear(layer: &Linear, x: &[f32], activations: Activations) -> Result<Vec<f64>> {
    let n = shapes::batch_of(layer.weight(), x)?;
    // The scales of what is rounded are those of the other columns.
    let others = layer.kept().map(|kept| kept.clear(x, layer.weight().cols()));
    let mut y = matmul_with(layer.weight(), others.as_deref().unwrap_or(x), activations)?;
    if let Some(bias) = layer.bias() {
        let bias = bias.dequantize();
        y.iter_mut().zip(bias.iter().cycle()).for_each(|(y, b)| *y += f64::from(*b));
    }
    if let Some(kept) = layer.kept() {
        let more = matmul(kept.weight(), &kept.gather(x, layer.weight().cols()))?;
        y.iter_mut().zip(&more).for_each(|(y, v)| *y += v);
    }
    for adapter in layer.adapters() {
        let u = matmul(adapter.a(), x)?;
        let low_rank = products(adapter.b(), &u, n);
        y.iter_mut().zip(&low_rank).for_each(|(y, v)| *y += adapter.scale() * v);
    }
    Ok(y)
}

/// Mixture of experts: `y[i, t] = x[i] · w[experts[i, t]]ᵀ` for a stack of `stack` matrices,
/// `[n, per, m]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if an expert does not exist or their count is no multiple
/// of n.
pub fn matmul_experts(
    w: &PackedTensor,
    stack: usize,
    x: &[f32],
    experts: &[u32],
    activations: Activations,
) -> Result<Vec<f64>> {
    let n = shapes::batch_of(w, x)?;
    shapes::check_experts(w.name(), stack, n, experts)?;
    let (m, k, per) = (w.rows() / stack.max(1), w.cols(), experts.len() / n.max(1));
    let x = stage::twin(x, k, activations);
    let column = |(slot, expert): (usize, &u32)| {
        let mut weights = vec![0f32; k];
        let row = |row: usize| {
            w.decode_row(*expert as usize * m + row, &mut weights);
            dot(&weights, &x[slot / per * k..(slot / per + 1) * k])
        };
        (0..m).map(row).collect::<Vec<_>>()
    };
    let columns: Vec<Vec<f64>> = experts.par_iter().enumerate().map(column).collect();
    Ok(columns.concat())
}

/// Σ (x·w)² over the products of each row of [`matmul`], `[m]`: the power that its outputs would
/// have if the signs were random. Nothing where there are no products: a weight without columns
/// takes no bytes, and may have more rows than fit in memory.
///
/// # Errors
/// As [`matmul`].
pub fn row_power(w: &PackedTensor, x: &[f32]) -> Result<Vec<f64>> {
    let k = w.cols();
    let n = shapes::batch_of(w, x)?;
    if n == 0 {
        return Ok(vec![]);
    }
    let columns: Vec<&[f32]> = x.chunks(k).collect();
    Ok(weighted(w, 0..w.rows(), &squares(&columns, k)))
}

/// [`row_power`] of [`matmul_experts`], for each row of the stack: of the columns that are sent to
/// its expert.
///
/// # Errors
/// As [`matmul_experts`].
pub fn experts_power(w: &PackedTensor, stack: usize, x: &[f32], experts: &[u32]) -> Result<Vec<f64>> {
    let n = shapes::batch_of(w, x)?;
    shapes::check_experts(w.name(), stack, n, experts)?;
    let (m, k, per) = (w.rows() / stack.max(1), w.cols(), experts.len() / n.max(1));
    let of_expert = |expert: usize| {
        let slots = experts.iter().enumerate().filter(|(_, e)| **e as usize == expert);
        let columns: Vec<&[f32]> = slots.map(|(slot, _)| &x[slot / per * k..(slot / per + 1) * k]).collect();
        weighted(w, expert * m..(expert + 1) * m, &squares(&columns, k))
    };
    Ok((0..stack).flat_map(of_expert).collect())
}

/// The squares of the activations of these columns, added up.
fn squares(columns: &[&[f32]], k: usize) -> Vec<f64> {
    (0..k).map(|i| columns.iter().map(|column| f64::from(column[i]).powi(2)).sum()).collect()
}

/// Σ w² · squares of each of these rows.
fn weighted(w: &PackedTensor, rows: Range<usize>, squares: &[f64]) -> Vec<f64> {
    let power = |weights: &mut Vec<f32>, row: usize| {
        w.decode_row(row, weights);
        weights.iter().zip(squares).map(|(w, x)| f64::from(*w) * f64::from(*w) * x).sum()
    };
    rows.into_par_iter().map_init(|| vec![0f32; w.cols()], power).collect()
}

/// [`row_power`] of a layer: that of the weight, of the bias, and of the products of b, where each
/// x · aᵀ counts with the power of its own products too.
///
/// # Errors
/// As [`matmul`].
pub fn linear_power(layer: &Linear, x: &[f32]) -> Result<Vec<f64>> {
    let mut power = row_power(layer.weight(), x)?;
    let n = shapes::batch_of(layer.weight(), x)?;
    if let Some(bias) = layer.bias() {
        power.iter_mut().zip(bias.dequantize()).for_each(|(p, b)| *p += n as f64 * f64::from(b).powi(2));
    }
    if let Some(kept) = layer.kept() {
        let more = row_power(kept.weight(), &kept.gather(x, layer.weight().cols()))?;
        power.iter_mut().zip(more).for_each(|(p, more)| *p += more);
    }
    for adapter in layer.adapters() {
        let mut squares = row_power(adapter.a(), x)?;
        let u = matmul(adapter.a(), x)?;
        u.chunks(adapter.rank()).for_each(|u| squares.iter_mut().zip(u).for_each(|(s, u)| *s += u * u));
        let more = weighted(adapter.b(), 0..adapter.b().rows(), &squares);
        power.iter_mut().zip(more).for_each(|(p, more)| *p += adapter.scale().powi(2) * more);
    }
    Ok(power)
}

/// Sum of products in f64, eight partial sums side by side so that it vectorizes.
fn dot(w: &[f32], x: &[f64]) -> f64 {
    let mut sums = [0f64; 8];
    let (w_chunks, x_chunks) = (w.chunks_exact(8), x.chunks_exact(8));
    let tail: f64 =
        w_chunks.remainder().iter().zip(x_chunks.remainder()).map(|(w, x)| f64::from(*w) * x).sum();
    for (w, x) in w_chunks.zip(x_chunks) {
        for i in 0..8 {
            sums[i] += f64::from(w[i]) * x[i];
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// `[m, n]` to `[n, m]`.
fn transpose(by_row: &[f64], m: usize, n: usize) -> Vec<f64> {
    (0..n).flat_map(|col| (0..m).map(move |row| by_row[row * n + col])).collect()
}
