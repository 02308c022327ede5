//! The operations that users add to a program.

use super::op::{self, product::Output};
use super::program::{Program, View, WeightHandle};
use super::types::MatmulOptions;
use crate::error::Result;
use std::ops::Range;

impl<W: WeightHandle> Program<W> {
    /// `y[n, m] = x[n, k] · w[m, k]ᵀ`. x and y may each be f32 or f16; sums are f32.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a view does not fit the weight,
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded),
    /// [`Error::Argument`](crate::Error::Argument) if no kernel that `options` allow does it.
    pub fn matmul(&mut self, w: &W, x: View, y: View, options: &MatmulOptions) -> Result<()> {
        self.with_weight(w, |plan, w| op::matmul::add(plan, w, x, Output::of(y), options))
    }

    /// `y[n, m] += x[n, k] · w[m, k]ᵀ`: a residual, for one.
    ///
    /// # Errors
    /// As [`Program::matmul`].
    pub fn matmul_add(&mut self, w: &W, x: View, y: View, options: &MatmulOptions) -> Result<()> {
        let output = Output { accumulate: true, ..Output::of(y) };
        self.with_weight(w, |plan, w| op::matmul::add(plan, w, x, output, options))
    }

    /// `y[n, m] = silu(gate[n, m]) ⊙ (x[n, k] · w[m, k]ᵀ)` with `silu(v) = v / (1 + exp(-v))`: the
    /// second half of a gated feed-forward layer, in the kernel that multiplies. The gate is f32.
    ///
    /// # Errors
    /// As [`Program::matmul`]; [`Error::Argument`](crate::Error::Argument) with LLM.int8.
    pub fn matmul_gated(
        &mut self,
        w: &W,
        x: View,
        gate: View,
        y: View,
        options: &MatmulOptions,
    ) -> Result<()> {
        let output = Output { gate: Some(gate), ..Output::of(y) };
        self.with_weight(w, |plan, w| op::matmul::add(plan, w, x, output, options))
    }

    /// A mixture of experts: `y[n, per, m] = x[n, k] · w[experts[n, per]]ᵀ` for the m rows of one
    /// expert. `experts` is a slot of u32 with `per` a token, and y one of m for each of them, so
    /// that it has `n * per` rows. Where an expert does not exist, y keeps its values.
    ///
    /// # Errors
    /// As [`Program::matmul`].
    pub fn matmul_experts(
        &mut self,
        w: &W,
        x: View,
        experts: View,
        y: View,
        options: &MatmulOptions,
    ) -> Result<()> {
        self.with_weight(w, |plan, w| op::experts::add(plan, w, x, experts, y, options))
    }

    /// `y[n, k] = w[rows[n], k]`: token embeddings. `rows` is a slot of u32, one a token; where
    /// there is no such row, y keeps its values.
    ///
    /// # Errors
    /// As [`Program::matmul`].
    pub fn get_rows(&mut self, w: &W, rows: View, y: View) -> Result<()> {
        self.with_weight(w, |plan, w| op::get_rows::add(plan, w, rows, y))
    }

    /// `y[rows, k] = w[rows, k]` as f32, whatever the number of tokens: y has a row of k for each
    /// of `rows`.
    ///
    /// # Errors
    /// As [`Program::matmul`].
    pub fn dequantize(&mut self, w: &W, rows: Range<usize>, y: View) -> Result<()> {
        self.with_weight(w, |plan, w| op::dequantize::add(plan, w, rows, y))
    }
}
