//! The async forms of the checks, for browsers and async callers.

use super::Comparison;
use super::verify::{self, Outcome};
use crate::error::Result;
use crate::gpu::{Layer, Runtime, Weights, in_background};
use crate::kernel::{Activations, MatmulOptions};
use crate::linear::Linear;
use crate::tensor::PackedTensor;

/// [`super::tensor`] for an async caller.
///
/// # Errors
/// As there.
pub async fn tensor_async(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let (runtime, packed, batches, options) =
        (runtime.clone(), packed.clone(), batches.to_vec(), options.clone());
    in_background(async move { verify::tensor(&runtime, &packed, &batches, &options, seed).await }).await
}

/// [`super::tensor_into`] for an async caller.
///
/// # Errors
/// As there.
pub async fn tensor_into_async(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    let (runtime, packed, batches, options) =
        (runtime.clone(), packed.clone(), batches.to_vec(), options.clone());
    let work = async move {
        let mut new = vec![];
        let result = verify::tensor_into(&mut new, &runtime, &packed, &batches, &options, seed).await;
        Ok((new, result))
    };
    let (mut new, result) = in_background(work).await?;
    outcomes.append(&mut new);
    result
}

/// [`super::candidates_into`] for an async caller.
///
/// # Errors
/// As there.
pub async fn candidates_into_async(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    activations: Activations,
    seed: u64,
) -> Result<()> {
    let (runtime, packed, batches) = (runtime.clone(), packed.clone(), batches.to_vec());
    let work = async move {
        let mut new = vec![];
        let result = verify::candidates_into(&mut new, &runtime, &packed, &batches, activations, seed).await;
        Ok((new, result))
    };
    let (mut new, result) = in_background(work).await?;
    outcomes.append(&mut new);
    result
}

/// [`super::matmul`] for an async caller.
///
/// # Errors
/// As there.
pub async fn matmul_async(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let (runtime, packed, weights, x, options) =
        (runtime.clone(), packed.clone(), weights.clone(), x.to_vec(), options.clone());
    in_background(async move { verify::matmul(&runtime, &packed, &weights, &x, &options).await }).await
}

/// [`super::layer`] for an async caller.
///
/// # Errors
/// As there.
pub async fn layer_async(
    runtime: &Runtime,
    linear: &Linear,
    layer: &Layer,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let (runtime, linear, layer, x, options) =
        (runtime.clone(), linear.clone(), layer.clone(), x.to_vec(), options.clone());
    in_background(async move { verify::layer(&runtime, &linear, &layer, &x, &options).await }).await
}

/// [`super::lora_into`] for an async caller.
///
/// # Errors
/// As there.
pub async fn lora_into_async(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    linear: &Linear,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    let (runtime, linear, batches, options) =
        (runtime.clone(), linear.clone(), batches.to_vec(), options.clone());
    let work = async move {
        let mut new = vec![];
        let result = verify::lora_into(&mut new, &runtime, &linear, &batches, &options, seed).await;
        Ok((new, result))
    };
    let (mut new, result) = in_background(work).await?;
    outcomes.append(&mut new);
    result
}

/// [`super::sampled`] for an async caller.
///
/// # Errors
/// As there.
pub async fn sampled_async(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
    rows: (usize, u64),
) -> Result<Comparison> {
    let (runtime, packed, weights, x, options) =
        (runtime.clone(), packed.clone(), weights.clone(), x.to_vec(), options.clone());
    in_background(async move { verify::sampled(&runtime, &packed, &weights, &x, &options, rows).await }).await
}

/// [`super::matmul_experts`] for an async caller.
///
/// # Errors
/// As there.
pub async fn matmul_experts_async(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    experts: &[u32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let (runtime, packed, weights, x, experts, options) =
        (runtime.clone(), packed.clone(), weights.clone(), x.to_vec(), experts.to_vec(), options.clone());
    in_background(
        async move { verify::matmul_experts(&runtime, &packed, &weights, &x, &experts, &options).await },
    )
    .await
}

/// [`super::experts`] for an async caller.
///
/// # Errors
/// As there.
pub async fn experts_async(
    runtime: &Runtime,
    packed: &PackedTensor,
    stack: (usize, usize),
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    let (runtime, packed, options) = (runtime.clone(), packed.clone(), options.clone());
    in_background(async move { verify::experts(&runtime, &packed, stack, &options, seed).await }).await
}
