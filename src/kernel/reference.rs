//! The CPU reference: plain loops over decoded rows, sums in f64, rows in parallel.
//!
//! A row is summed by one thread in one order, so the bits do not depend on the number of threads.

use crate::error::{Error, Result};
use crate::tensor::PackedTensor;
use rayon::prelude::*;

/// `y[n, m] = x[n, k] · w[m, k]ᵀ` with f32 weights as decoded and f64 sums; `n = x.len() / k`.
///
/// # Errors
/// [`Error::Shape`] if `x` is not a whole number of columns.
pub fn matmul(w: &PackedTensor, x: &[f32]) -> Result<Vec<f64>> {
    let (m, k) = (w.rows(), w.cols());
    let n = batch_of(w, x)?;
    let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
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
    Ok(transpose(&by_row, m, n))
}

/// Σ (x·w)² over the products of each row of [`matmul`], `[m]`: the power that its outputs would have if the signs were random.
///
/// # Errors
/// As [`matmul`].
pub fn row_power(w: &PackedTensor, x: &[f32]) -> Result<Vec<f64>> {
    let k = w.cols();
    let n = batch_of(w, x)?;
    // The squares of the activations of all columns are added up first.
    let squares: Vec<f64> =
        (0..k).map(|i| (0..n).map(|col| f64::from(x[col * k + i]).powi(2)).sum()).collect();
    let power = |weights: &mut Vec<f32>, row: usize| {
        w.decode_row(row, weights);
        weights.iter().zip(&squares).map(|(w, x)| f64::from(*w) * f64::from(*w) * x).sum()
    };
    Ok((0..w.rows()).into_par_iter().map_init(|| vec![0f32; k], power).collect())
}

/// The batch size of activations `x` for weight `w`.
///
/// # Errors
/// [`Error::Shape`] if `x` is not a whole number of columns of `w.cols()` elements.
pub fn batch_of(w: &PackedTensor, x: &[f32]) -> Result<usize> {
    batch(w.name(), w.cols(), x.len())
}

pub(crate) fn batch(name: &str, k: usize, len: usize) -> Result<usize> {
    match k {
        0 if len == 0 => Ok(0),
        k if k > 0 && len.is_multiple_of(k) => Ok(len / k),
        _ => {
            Err(Error::shape(format!("activations for `{name}`"), format!("a multiple of {k} elements"), len))
        }
    }
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
