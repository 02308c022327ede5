//! The blocking forms of the checks. In a browser there are only the async ones: [`super::tensor_async`]
//! and its like.

use super::Comparison;
use super::verify::{self, Outcome};
use crate::error::Result;
use crate::gpu::{Layer, Runtime, Weights, block_on};
use crate::kernel::{Activations, MatmulOptions};
use crate::linear::Linear;
use crate::tensor::PackedTensor;

/// Checks a tensor on the device against the CPU: all weights bit for bit, some rows by number, a
/// matmul for each of `batches`.
///
/// A plain tensor with NaN or infinity, as files of statistics hold, and one without columns are
/// not multiplied, nor is one of millions of columns and no rows. Activations come from `seed`.
/// Activations `q8` do not apply to plain numbers, which are then taken as they are.
///
/// # Errors
/// The device's errors, but for those of a single operation: one that is refused, as one with a
/// wrong result, is an [`Outcome`] that did not pass.
pub fn tensor(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    block_on(verify::tensor(runtime, packed, batches, options, seed))
}

/// [`tensor`], whose outcomes are there even if an error follows them.
///
/// # Errors
/// As there.
pub fn tensor_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    block_on(verify::tensor_into(outcomes, runtime, packed, batches, options, seed))
}

/// Checks a matmul of each of `batches` by every kernel and variant that the device could be asked
/// for, not the best alone.
///
/// # Errors
/// As [`tensor`].
pub fn candidates_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    activations: Activations,
    seed: u64,
) -> Result<()> {
    block_on(verify::candidates_into(outcomes, runtime, packed, batches, activations, seed))
}

/// Checks one matmul with activations `x[n, k]` against the reference, and that nothing was written
/// behind the result.
///
/// # Errors
/// As [`Runtime::matmul`].
pub fn matmul(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    block_on(verify::matmul(runtime, packed, weights, x, options))
}

/// Checks one product of a layer, [`Runtime::matmul_layer`], as [`matmul`] does: the same bounds,
/// relative to the power of all its products.
///
/// # Errors
/// As [`Runtime::matmul_layer`].
pub fn layer(
    runtime: &Runtime,
    linear: &Linear,
    layer: &Layer,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    block_on(verify::layer(runtime, linear, layer, x, options))
}

/// Checks a weight with its bias, kept columns and adapters for each of `batches`, as [`tensor`]
/// checks the weight alone.
///
/// # Errors
/// As [`tensor`].
pub fn lora_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    linear: &Linear,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    block_on(verify::lora_into(outcomes, runtime, linear, batches, options, seed))
}

/// [`matmul`] held against the reference on `count` rows alone, the first and the last and random
/// ones between.
///
/// # Errors
/// As [`Runtime::matmul_with`].
pub fn sampled(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
    rows: (usize, u64),
) -> Result<Comparison> {
    block_on(verify::sampled(runtime, packed, weights, x, options, rows))
}

/// Checks one mixture of experts, [`Runtime::matmul_experts`], as [`matmul`] does.
///
/// # Errors
/// As [`Runtime::matmul_experts`].
pub fn matmul_experts(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    experts: &[u32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    block_on(verify::matmul_experts(runtime, packed, weights, x, experts, options))
}

/// Checks a stack of experts as a mixture: `n` columns of random activations, each sent to two
/// experts (one if there is but one), half of them to the first.
///
/// # Errors
/// As [`tensor`].
pub fn experts(
    runtime: &Runtime,
    packed: &PackedTensor,
    stack: (usize, usize),
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    block_on(verify::experts(runtime, packed, stack, options, seed))
}
