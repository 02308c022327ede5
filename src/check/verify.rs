//! The operations of a device held against the reference.

use super::compare::{Comparison, Rows, compare_bits, judge, judge_against};
use super::random::{Random, activations};
use crate::error::Result;
use crate::format::Layout;
use crate::gpu::{CANARY, Layer, Runtime, Task, Upload, Weights};
use crate::kernel::{self, Activations, MatmulOptions, Problem, reference, shapes};
use crate::linear::{Linear, Lora};
use crate::tensor::PackedTensor;

/// The outcome of one operation on one tensor.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Name of the tensor.
    pub tensor: String,
    /// Its format.
    pub format: &'static str,
    /// Outputs.
    pub m: usize,
    /// Inputs.
    pub k: usize,
    /// `dequantize`, `get_rows`, `matmul`, `experts` for a mixture of them (m is then the rows of
    /// one), `lora` for a layer with adapters, or `layer` for one with kept columns or a bias
    /// alone.
    pub operation: &'static str,
    /// Columns of the batch; 0 for dequantize.
    pub n: usize,
    /// How activations were taken.
    pub activations: &'static str,
    /// The kernels that ran, with their variants: `quantize_activations_q8+gemm:64x64`.
    pub kernel: String,
    /// How the result compares.
    pub comparison: Comparison,
}

impl Outcome {
    /// What this says of a task that ran on a tensor.
    fn new(packed: &PackedTensor, (operation, n): (&'static str, usize), ran: Ran) -> Self {
        Self {
            tensor: packed.name().into(),
            format: packed.format().name,
            m: packed.rows(),
            k: packed.cols(),
            operation,
            n,
            activations: ran.activations.name(),
            kernel: ran.kernel,
            comparison: ran.comparison,
        }
    }

    /// Row of the weight and column (of the batch for products, of the weight for others) where the
    /// result differs most. For `get_rows`, the row is one of those that were asked for.
    pub fn place(&self) -> Option<(usize, usize)> {
        let index = self.comparison.worst?.index;
        match self.operation {
            "dequantize" | "get_rows" => Some((index / self.k.max(1), index % self.k.max(1))),
            _ => Some((index % self.m.max(1), index / self.m.max(1))),
        }
    }
}

/// A task that was carried out and compared.
struct Ran {
    kernel: String,
    activations: Activations,
    comparison: Comparison,
}

/// Rows that are dequantized and compared at a time, so that a large matrix is never held as f32.
const CHECK_ELEMENTS: usize = 16 << 20;

/// [`super::tensor_async`].
pub(super) async fn tensor(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![];
    tensor_into(&mut outcomes, runtime, packed, batches, options, seed).await?;
    Ok(outcomes)
}

/// [`super::tensor_into_async`].
pub(super) async fn tensor_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    let finite = match packed.check_finite() {
        // Statistics are plain numbers; a packed weight with such a scale is broken.
        Err(error) if !packed.format().is_plain() => return Err(error),
        finite => finite.is_ok(),
    };
    let decoded = |operation: &'static str, n, comparison| {
        let ran = Ran { kernel: operation.into(), activations: Activations::F32, comparison };
        Outcome::new(packed, (operation, n), ran)
    };
    if is_vast_nothing(packed) {
        outcomes.push(decoded("dequantize", 0, Comparison::nothing()));
        return Ok(());
    }
    let weights = runtime.upload_with(packed, Upload { allow_non_finite: true, ..Upload::default() })?;
    let all = Comparison::or_refused(dequantize(runtime, packed, &weights).await)?;
    outcomes.push(decoded("dequantize", 0, all));
    let rows = rows_to_look_up(packed.rows(), seed);
    let some = Comparison::or_refused(get_rows(runtime, packed, &weights, &rows).await)?;
    outcomes.push(decoded("get_rows", rows.len(), some));
    let options = &applicable(packed, options);
    for &n in batches.iter().filter(|_| finite && packed.cols() > 0) {
        outcomes.push(product(runtime, packed, &weights, n, options, seed).await?);
    }
    Ok(())
}

/// A file of no bytes may claim so many rows of no columns that a device takes minutes to compare
/// nothing, or so many columns of no rows that their activations take gigabytes.
fn is_vast_nothing(packed: &PackedTensor) -> bool {
    let (rows, cols) = (packed.rows(), packed.cols());
    rows.min(cols) == 0 && rows.max(cols) > CHECK_ELEMENTS
}

/// Checks one matmul with `n` columns of random activations.
async fn product(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    n: usize,
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    let x = activations(n * packed.cols(), seed ^ n as u64);
    let kernel = runtime.kernels(weights, n, options)?;
    let comparison = Comparison::or_refused(matmul(runtime, packed, weights, &x, options).await)?;
    let ran = Ran { kernel, activations: options.activations, comparison };
    Ok(Outcome::new(packed, ("matmul", n), ran))
}

/// [`super::candidates_into_async`].
pub(super) async fn candidates_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    activations: Activations,
    seed: u64,
) -> Result<()> {
    let (layout, weights) = (packed.layout(), runtime.upload(packed)?);
    for &n in batches {
        let problem = Problem { activations, ..Problem::of(&layout, packed.rows(), packed.cols(), n) };
        for candidate in kernel::candidates(runtime.caps(), &problem) {
            let (kernel, variant) = (Some(candidate.kernel), Some(candidate.config.variant));
            let options = MatmulOptions { activations, kernel, variant };
            outcomes.push(product(runtime, packed, &weights, n, &options, seed).await?);
        }
    }
    Ok(())
}

/// [`super::matmul_async`].
pub(super) async fn matmul(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let (mut got, mut intact) = (vec![], true);
    for part in runtime.batches(weights, x)? {
        let (mut y, untouched) = guarded(runtime, weights, &Task::Matmul(part, options)).await?;
        got.append(&mut y);
        intact &= untouched;
    }
    let rounds = runtime.rounds_weights(weights, &Task::Matmul(x, options))?;
    Ok(judge(&got, packed, x, options.activations, rounds)?.and(intact))
}

/// [`super::layer_async`].
pub(super) async fn layer(
    runtime: &Runtime,
    linear: &Linear,
    layer: &Layer,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let (mut got, mut intact) = (vec![], true);
    for part in runtime.batches(layer.weight(), x)? {
        let (mut y, untouched) = split_margin(runtime.run_layer(layer, part, options, MARGIN).await?);
        got.append(&mut y);
        intact &= untouched;
    }
    let rounds = runtime.rounds_weights(layer.weight(), &Task::Matmul(x, options))?;
    let power = reference::linear_power(linear, x)?;
    let more = |adapters: usize, low_rank: &Lora| adapters + low_rank.rank();
    let kept = linear.kept().map_or(0, |kept| kept.columns().len());
    let terms = linear.adapters().iter().fold(linear.weight().cols() + kept + 1, more);
    let rows = Rows { power: &power, terms, of: &|output| output % power.len() };
    let want = |activations| reference::linear(linear, x, activations);
    Ok(judge_against(&got, &rows, options.activations, rounds, want)?.and(intact))
}

/// [`super::lora_into_async`].
pub(super) async fn lora_into(
    outcomes: &mut Vec<Outcome>,
    runtime: &Runtime,
    linear: &Linear,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<()> {
    let packed = linear.weight();
    if packed.rows().min(packed.cols()) == 0 {
        return Ok(());
    }
    let uploaded = runtime.upload_layer(linear)?;
    let options = applicable(packed, options);
    for &n in batches {
        let x = activations(n * packed.cols(), seed ^ n as u64);
        let ran = Ran {
            kernel: runtime.kernels(uploaded.weight(), n, &options)?,
            activations: options.activations,
            comparison: Comparison::or_refused(layer(runtime, linear, &uploaded, &x, &options).await)?,
        };
        let operation = if linear.adapters().is_empty() { "layer" } else { "lora" };
        outcomes.push(Outcome::new(packed, (operation, n), ran));
    }
    Ok(())
}

/// True if activations can be taken so for weights of this layout.
pub fn applies(layout: &Layout, activations: Activations) -> bool {
    activations.suit(layout)
}

/// The options, or exact activations where theirs do not suit these weights.
fn applicable(packed: &PackedTensor, options: &MatmulOptions) -> MatmulOptions {
    match options.activations.suit(&packed.layout()) {
        true => options.clone(),
        false => MatmulOptions::default(),
    }
}

/// The options, or exact activations where theirs do not suit a mixture of experts of these
/// weights.
fn for_experts(packed: &PackedTensor, options: &MatmulOptions) -> MatmulOptions {
    match options.activations.suit_experts() {
        true => applicable(packed, options),
        false => MatmulOptions::default(),
    }
}

/// [`super::sampled_async`].
pub(super) async fn sampled(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
    (count, seed): (usize, u64),
) -> Result<Comparison> {
    let y = runtime.multiply(weights, x, options).await?;
    let (m, n) = (packed.rows(), shapes::batch_of(packed, x)?);
    let rows = some_rows(m, count, seed);
    let part = packed.select_rows(&rows)?;
    let got: Vec<f32> = (0..n).flat_map(|c| rows.iter().map(move |r| c * m + r)).map(|i| y[i]).collect();
    judge(&got, &part, x, options.activations, runtime.rounds_weights(weights, &Task::Matmul(x, options))?)
}

/// Rows in no order that a kernel's tiles could share, the first and the last among them.
fn some_rows(m: usize, count: usize, seed: u64) -> Vec<usize> {
    if m <= count {
        return (0..m).collect();
    }
    let mut random = Random::new(seed);
    let between = (2..count).map(|_| (random.next_u64() % m as u64) as usize);
    [0, m - 1].into_iter().chain(between).collect()
}

/// [`super::matmul_experts_async`].
pub(super) async fn matmul_experts(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    experts: &[u32],
    options: &MatmulOptions,
) -> Result<Comparison> {
    let task = Task::Experts(x, experts, options);
    let (got, intact) = guarded(runtime, weights, &task).await?;
    let (stack, rounds) = (weights.experts(), runtime.rounds_weights(weights, &task)?);
    let power = reference::experts_power(packed, stack, x, experts)?;
    let m = packed.rows() / stack;
    let of = |output: usize| experts[output / m] as usize * m + output % m;
    let rows = Rows { power: &power, terms: packed.cols(), of: &of };
    let want = |activations| reference::matmul_experts(packed, stack, x, experts, activations);
    Ok(judge_against(&got, &rows, options.activations, rounds, want)?.and(intact))
}

/// [`super::experts_async`].
pub(super) async fn experts(
    runtime: &Runtime,
    packed: &PackedTensor,
    (stack, n): (usize, usize),
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    let weights = runtime.upload_with(packed, Upload { experts: stack, ..Upload::default() })?;
    let options = &for_experts(packed, options);
    let x = activations(n * packed.cols(), seed);
    let mut random = Random::new(seed);
    let per = stack.min(2);
    let expert = |i: usize| if i.is_multiple_of(per) { 0 } else { (random.next_u64() % stack as u64) as u32 };
    let ids: Vec<u32> = (0..n * per).map(expert).collect();
    let ran = Ran {
        kernel: runtime.task_kernels(&weights, &Task::Experts(&x, &ids, options))?,
        activations: options.activations,
        comparison: Comparison::or_refused(
            matmul_experts(runtime, packed, &weights, &x, &ids, options).await,
        )?,
    };
    let outcome = Outcome::new(packed, ("experts", n), ran);
    Ok(Outcome { m: packed.rows() / stack, ..outcome })
}

/// Elements behind a result that must keep their value.
const MARGIN: usize = 256;

/// Runs a task; its result, and whether the elements behind it kept their value.
async fn guarded(runtime: &Runtime, weights: &Weights, task: &Task<'_>) -> Result<(Vec<f32>, bool)> {
    Ok(split_margin(runtime.run(weights, task, MARGIN).await?))
}

/// A result without the elements behind it, and whether those kept their value.
fn split_margin(mut got: Vec<f32>) -> (Vec<f32>, bool) {
    let margin = got.split_off(got.len() - MARGIN);
    (got, margin.iter().all(|v| *v == CANARY))
}

async fn dequantize(runtime: &Runtime, packed: &PackedTensor, weights: &Weights) -> Result<Comparison> {
    let mut total = Comparison::nothing();
    let step = (CHECK_ELEMENTS / packed.cols().max(1)).max(1);
    for first in (0..packed.rows()).step_by(step) {
        let rows = first..packed.rows().min(first + step);
        let (got, intact) = guarded(runtime, weights, &Task::Dequantize(rows.clone())).await?;
        let want = decode_rows(packed, rows.map(|row| row as u32));
        total.add(compare_bits(&got, &want).and(intact), first * packed.cols());
    }
    Ok(total)
}

/// Up to nine rows of m: the ends, and some between, not in order.
fn rows_to_look_up(m: usize, seed: u64) -> Vec<u32> {
    let Some(last) = m.checked_sub(1) else { return vec![] };
    let mut random = Random::new(seed);
    let between = (0..7).map(|_| (random.next_u64() % m as u64) as u32);
    between.chain([last as u32, 0]).collect()
}

async fn get_rows(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    rows: &[u32],
) -> Result<Comparison> {
    if rows.is_empty() {
        return Ok(Comparison::nothing());
    }
    let (got, intact) = guarded(runtime, weights, &Task::GetRows(rows)).await?;
    let want = decode_rows(packed, rows.iter().copied());
    Ok(compare_bits(&got, &want).and(intact))
}

fn decode_rows(packed: &PackedTensor, rows: impl ExactSizeIterator<Item = u32>) -> Vec<f32> {
    let k = packed.cols();
    let mut out = vec![0f32; rows.len() * k];
    for (row, out) in rows.zip(out.chunks_mut(k.max(1))) {
        packed.decode_row(row as usize, out);
    }
    out
}
