//! GPU against CPU: what counts as equal, and the check of a whole tensor.
//!
//! The bounds live here and nowhere else.
//!
//! * Dequantize and get_rows: equal bits. Both sides compute the same exact products and round once. One NaN is as good as
//!   another. A weight below 2^-123 may be zero, because devices may flush subnormal numbers: that is what the smallest
//!   scales of MXFP4 are, though their largest products are not, and what F32 and BF16 weights may be. NF4 and FP4 are one product
//!   of an f32 code and an f32 scale, too; scales that are quantized again, a product and a sum that a device might fuse, are decoded
//!   at upload, by the CPU's own code. The rounding that bitsandbytes adds, to the type of the layer, is left out on both sides.
//! * Matmul: NMSE at most [`NMSE_F32`] against f64 sums over the same decoded weights. It catches a scale that lost
//!   mantissa bits and a single wrong entry of a code book, which ggml's bar of 5e-4 does not. The error is taken relative
//!   to the power of the result, or to the power its products have with random signs, Σ(x·w)², where that is larger: the
//!   two agree for many outputs, but one output alone may cancel to nearly nothing, and then even a correctly rounded
//!   f32 sum is far from it in its own terms.
//! * Each row of a matmul by itself, in the same terms: at most [`NMSE_ROW`]. A weight may have rows a million times larger
//!   than the others, and the whole then says nothing about those.
//! * Activations that are rounded on the way: the same bounds against a CPU twin that rounds them alike, bit for bit. And
//!   against the activations as they are, [`NMSE_F16`] or [`NMSE_Q8`], which says that what was rounded was the right thing. A
//!   kernel that rounds weights to f16 as well, as cooperative matrices must, is held to [`NMSE_F16`] alone.
//! * Rounding errors are random: few outputs stray further than many do, so their bounds are wider, by 1 + 16 / count.

use crate::error::Result;
use crate::format::{Blocks, Format, Layout};
use crate::gpu::{CANARY, Layer, Runtime, Task, Upload, Weights};
use crate::kernel::{self, Activations, MatmulOptions, Request, reference};
use crate::linear::Linear;
use crate::tensor::PackedTensor;
use std::fmt;

/// Bound of the normalized mean square error of a matmul with f32 activations and f32 sums.
pub const NMSE_F32: f64 = 1e-10;

/// Bound of the same for the outputs of one row of the weight: a single f32 sum strays further than the mean.
pub const NMSE_ROW: f64 = 1e-8;

/// Bound for activations (and weights) rounded to f16: 2^-12 of each at worst, squared, is 6e-8.
pub const NMSE_F16: f64 = 1e-6;

/// Bound for activations rounded to eight bits per 32: for normal ones 2.5e-5 is to be expected.
pub const NMSE_Q8: f64 = 1e-4;

/// Bound for LLM.int8: half a step of 127 to the largest activation of a column below the threshold. For normal ones 1e-4 is
/// to be expected; a few large ones below the threshold make it larger.
pub const NMSE_INT8: f64 = 1e-2;

/// The bound against the exact product for these activations.
pub fn bound(activations: Activations) -> f64 {
    match activations {
        Activations::F32 => NMSE_F32,
        Activations::F16 => NMSE_F16,
        Activations::Q8 => NMSE_Q8,
        Activations::Int8(_) => NMSE_INT8,
    }
}

/// How much wider the bound of a row is than that of the whole.
const ROW_FACTOR: f64 = NMSE_ROW / NMSE_F32;

/// Where and how much a result differs most.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Worst {
    /// Index in the result: `column * m + row`, or `row * k + column` of a dequantized weight.
    pub index: usize,
    /// What the device computed.
    pub got: f64,
    /// What the reference says.
    pub want: f64,
}

/// A result held against its reference.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Comparison {
    /// Number of values compared.
    pub count: usize,
    /// Σ(got − want)² / Σ want²; infinite if one side alone is not finite.
    pub nmse: f64,
    /// Values whose bits differ, for comparisons that ask for equal bits.
    pub different: usize,
    /// The largest difference.
    pub worst: Option<Worst>,
    /// True if nothing was written behind the result.
    pub intact: bool,
    /// True if the result is right.
    pub passed: bool,
}

impl Comparison {
    /// The same, failed if the elements behind the result are not intact.
    fn and(self, intact: bool) -> Self {
        Self { intact, passed: self.passed && intact, ..self }
    }
}

/// Holds `got` against `want` at a bound on the NMSE. If all of `want` is zero, all of `got` must be.
pub fn compare(got: &[f32], want: &[f64], bound: f64) -> Comparison {
    compare_with_power(got, want, 0.0, bound)
}

/// [`compare`], relative to a power of at least `least_power`.
fn compare_with_power(got: &[f32], want: &[f64], least_power: f64, bound: f64) -> Comparison {
    let (mut error, mut power) = (0f64, 0f64);
    let mut worst: Option<(f64, Worst)> = None;
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let (got, want) = (f64::from(*got), *want);
        let difference = match (got.is_finite(), want.is_finite()) {
            (true, true) => (got - want).abs(),
            _ if got == want || (got.is_nan() && want.is_nan()) => 0.0,
            _ => f64::INFINITY,
        };
        if difference > worst.map_or(0.0, |(d, _)| d) {
            worst = Some((difference, Worst { index, got, want }));
        }
        error += difference * difference;
        power += if want.is_finite() { want * want } else { 0.0 };
    }
    let nmse = if error == 0.0 { 0.0 } else { error / power.max(least_power) };
    let passed = got.len() == want.len() && nmse <= bound;
    Comparison { count: got.len(), nmse, different: 0, worst: worst.map(|(_, w)| w), intact: true, passed }
}

/// 2^-123: products of a subnormal scale are smaller.
const FLUSHED: f32 = f32::from_bits((127 - 123) << 23);

/// Holds `got` against `want` bit for bit, with the exceptions above.
pub fn compare_bits(got: &[f32], want: &[f32]) -> Comparison {
    let flushed = |got: f32, want: f32| got == 0.0 && want != 0.0 && want.abs() < FLUSHED;
    let equal = |got: f32, want: f32| {
        got.to_bits() == want.to_bits() || flushed(got, want) || (got.is_nan() && want.is_nan())
    };
    let wrong = |(got, want): (&f32, &f32)| !equal(*got, *want);
    let different = got.iter().zip(want).filter(|(g, w)| wrong((g, w))).count();
    let worst = got.iter().zip(want).position(wrong).map(|index| Worst {
        index,
        got: f64::from(got[index]),
        want: f64::from(want[index]),
    });
    let nmse = if different == 0 { 0.0 } else { f64::INFINITY };
    let passed = different == 0 && got.len() == want.len();
    Comparison { count: got.len(), nmse, different, worst, intact: true, passed }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "ok" } else { "WRONG" };
        write!(f, "{verdict}, nmse {:.1e}", self.nmse)?;
        if let (Some(w), false) = (&self.worst, self.passed) {
            write!(f, ", index {}: got {}, want {}", w.index, w.got, w.want)?;
        }
        if self.intact { Ok(()) } else { write!(f, ", wrote behind the result") }
    }
}

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
    /// `dequantize`, `get_rows`, `matmul`, `experts` for a mixture of them (m is then the rows of one), `lora` for a layer with
    /// adapters, or `layer` for one with kept columns or a bias alone.
    pub operation: &'static str,
    /// Columns of the batch; 0 for dequantize.
    pub n: usize,
    /// How activations were taken.
    pub activations: &'static str,
    /// The kernels that ran, with their variants: `stage_q8+gemm:64x64`.
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

    /// Row of the weight and column (of the batch for products, of the weight for others) where the result differs most. For `get_rows`,
    /// the row is one of those that were asked for.
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

/// Checks a tensor on the device against the CPU: all weights bit for bit, some rows by number, a matmul for each of `batches`.
///
/// A plain tensor with NaN or infinity, as files of statistics hold, is not multiplied. Activations come from `seed`. Activations `q8` do not apply to plain numbers, which are then taken as they are.
///
/// # Errors
/// The device's errors; a wrong result is an [`Outcome`] that did not pass, not an error.
pub fn tensor(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let finite = match packed.check_finite() {
        // Statistics are plain numbers; a packed weight with such a scale is broken.
        Err(error) if !packed.format().is_plain() => return Err(error),
        finite => finite.is_ok(),
    };
    let decoded = |operation: &'static str, n, comparison| {
        let ran = Ran { kernel: operation.into(), activations: Activations::F32, comparison };
        Outcome::new(packed, (operation, n), ran)
    };
    // A file of no bytes may claim so many rows of no columns that a device takes minutes to compare nothing.
    if packed.cols() == 0 && packed.rows() > CHECK_ELEMENTS {
        return Ok(vec![decoded("dequantize", 0, compare_bits(&[], &[]))]);
    }
    let weights = runtime.upload_with(packed, Upload { allow_non_finite: true, ..Upload::default() })?;
    let mut outcomes = vec![decoded("dequantize", 0, dequantize(runtime, packed, &weights)?)];
    let (n, comparison) = get_rows(runtime, packed, &weights, seed)?;
    outcomes.push(decoded("get_rows", n, comparison));
    let options = &applicable(packed, options);
    for &n in batches.iter().filter(|_| finite) {
        outcomes.push(product(runtime, packed, &weights, n, options, seed)?);
    }
    Ok(outcomes)
}

/// Checks one matmul with `n` columns of random activations.
fn product(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    n: usize,
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    let x = activations(n * packed.cols(), seed ^ n as u64);
    let comparison = matmul(runtime, packed, weights, &x, options)?;
    let kernel = runtime.kernels(weights, n, options)?;
    let ran = Ran { kernel, activations: options.activations, comparison };
    Ok(Outcome::new(packed, ("matmul", n), ran))
}

/// Checks a matmul of each of `batches` by every kernel and variant that the device could be asked for, not the best alone.
///
/// # Errors
/// As [`tensor`].
pub fn candidates(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    activations: Activations,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let (layout, weights) = (packed.layout(), runtime.upload(packed)?);
    let mut outcomes = vec![];
    for &n in batches {
        let request = Request {
            rows: packed.rows(),
            cols: packed.cols(),
            batch: n,
            activations,
            experts: false,
            codes: layout.codes,
            looked_up: layout.is_looked_up(),
            gathered: false,
        };
        for candidate in kernel::candidates(runtime.caps(), &request) {
            let (kernel, variant) = (Some(candidate.kernel), Some(candidate.config.variant));
            let options = MatmulOptions { activations, kernel, variant };
            outcomes.push(product(runtime, packed, &weights, n, &options, seed)?);
        }
    }
    Ok(outcomes)
}

/// Checks one matmul with activations `x[n, k]` against the reference, and that nothing was written behind the result.
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
    let (mut got, mut intact) = (vec![], true);
    for part in runtime.batches(weights, x)? {
        let (mut y, untouched) = guarded(runtime, weights, &Task::Matmul(part, options))?;
        got.append(&mut y);
        intact &= untouched;
    }
    let rounds = runtime.rounds_weights(weights, &Task::Matmul(x, options))?;
    Ok(judge(&got, packed, x, options.activations, rounds)?.and(intact))
}

/// Checks one product of a layer, [`Runtime::matmul_layer`], as [`matmul`] does: the same bounds, relative to the power of all
/// its products.
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
    let (mut got, mut intact) = (vec![], true);
    for part in runtime.batches(layer.weight(), x)? {
        let (mut y, untouched) = split_margin(runtime.run_layer(layer, part, options, MARGIN)?);
        got.append(&mut y);
        intact &= untouched;
    }
    let rounds = runtime.rounds_weights(layer.weight(), &Task::Matmul(x, options))?;
    let power = reference::linear_power(linear, x)?;
    let want = |activations| reference::linear(linear, x, activations);
    Ok(judge_against(&got, &power, options.activations, rounds, want)?.and(intact))
}

/// Checks a weight with its bias, kept columns and adapters for each of `batches`, as [`tensor`] checks the weight alone.
///
/// # Errors
/// As [`tensor`].
pub fn lora(
    runtime: &Runtime,
    linear: &Linear,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let (packed, uploaded) = (linear.weight(), runtime.upload_layer(linear)?);
    let options = applicable(packed, options);
    let one = |&n: &usize| {
        let x = activations(n * packed.cols(), seed ^ n as u64);
        let ran = Ran {
            kernel: runtime.kernels(uploaded.weight(), n, &options)?,
            activations: options.activations,
            comparison: layer(runtime, linear, &uploaded, &x, &options)?,
        };
        let operation = if linear.adapters().is_empty() { "layer" } else { "lora" };
        Ok(Outcome::new(packed, (operation, n), ran))
    };
    batches.iter().map(one).collect()
}

/// True if activations can be taken so for weights of this layout.
pub(crate) fn applies(layout: &Layout, activations: Activations) -> bool {
    match activations {
        Activations::F32 | Activations::F16 => true,
        Activations::Q8 => layout.has_integers(),
        Activations::Int8(_) => layout.has_columns(),
    }
}

/// The options, or exact activations where theirs do not apply to these weights.
fn applicable(packed: &PackedTensor, options: &MatmulOptions) -> MatmulOptions {
    match applies(&packed.layout(), options.activations) {
        true => options.clone(),
        false => MatmulOptions::default(),
    }
}

/// [`matmul`] held against the reference on `count` rows alone, the first and the last and random ones between.
///
/// # Errors
/// As [`Runtime::matmul_with`].
pub fn sampled(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    x: &[f32],
    options: &MatmulOptions,
    (count, seed): (usize, u64),
) -> Result<Comparison> {
    let y = runtime.matmul_with(weights, x, options)?;
    let (m, n) = (packed.rows(), reference::batch_of(packed, x)?);
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
    let task = Task::Experts(x, experts, options);
    let (got, intact) = guarded(runtime, weights, &task)?;
    let stack = weights.experts();
    let compared = |activations, bound| -> Result<Comparison> {
        let want = reference::matmul_experts(packed, stack, x, experts, activations)?;
        Ok(compare_with_power(&got, &want, 0.0, widened(bound, want.len())))
    };
    let (twin, exact) = bounds(options.activations, runtime.rounds_weights(weights, &task)?);
    Ok(worse(compared(options.activations, twin)?, compared(Activations::F32, exact)?).and(intact))
}

/// Checks a stack of experts as a mixture: `n` columns of random activations, each sent to two experts (one if there is but
/// one), half of them to the first.
///
/// # Errors
/// As [`tensor`].
pub fn experts(
    runtime: &Runtime,
    packed: &PackedTensor,
    (stack, n): (usize, usize),
    options: &MatmulOptions,
    seed: u64,
) -> Result<Outcome> {
    let weights = runtime.upload_with(packed, Upload { experts: stack, ..Upload::default() })?;
    let x = activations(n * packed.cols(), seed);
    let mut random = Random::new(seed);
    let per = stack.min(2);
    let expert = |i: usize| if i.is_multiple_of(per) { 0 } else { (random.next_u64() % stack as u64) as u32 };
    let ids: Vec<u32> = (0..n * per).map(expert).collect();
    let ran = Ran {
        kernel: runtime.task_kernels(&weights, &Task::Experts(&x, &ids, options))?,
        activations: options.activations,
        comparison: matmul_experts(runtime, packed, &weights, &x, &ids, options)?,
    };
    let outcome = Outcome::new(packed, ("experts", n), ran);
    Ok(Outcome { m: packed.rows() / stack, ..outcome })
}

/// The bounds against the reference with activations as the kernel rounds them, and against the exact one.
fn bounds(activations: Activations, rounds_weights: bool) -> (f64, f64) {
    (if rounds_weights { NMSE_F16 } else { NMSE_F32 }, bound(activations))
}

/// The bound of so many values that each stray at random.
fn widened(bound: f64, count: usize) -> f64 {
    bound * (1.0 + 16.0 / count.max(1) as f64)
}

/// Both must have passed; the numbers are those of the second, or of the one that failed.
fn worse(a: Comparison, b: Comparison) -> Comparison {
    if a.passed { b } else { a }
}

/// Holds `got`, `[n, m]`, against `x · wᵀ`, with the bounds for these activations.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns.
pub fn judge(
    got: &[f32],
    packed: &PackedTensor,
    x: &[f32],
    activations: Activations,
    rounds_weights: bool,
) -> Result<Comparison> {
    let power = reference::row_power(packed, x)?;
    judge_against(got, &power, activations, rounds_weights, |a| reference::matmul_with(packed, x, a))
}

/// Holds `got` against what `want` says for these activations, and for exact ones.
fn judge_against(
    got: &[f32],
    power: &[f64],
    activations: Activations,
    rounds_weights: bool,
    want: impl Fn(Activations) -> Result<Vec<f64>>,
) -> Result<Comparison> {
    let (twin, exact) = bounds(activations, rounds_weights);
    let against_exact = compare_rows(got, &want(Activations::F32)?, power, exact);
    if activations == Activations::F32 {
        return Ok(against_exact);
    }
    Ok(worse(compare_rows(got, &want(activations)?, power, twin), against_exact))
}

/// Holds `got` against `want`, both `[n, m]`, as a whole at `bound` and row by row; `power` is Σ(x·w)² of each of the m rows.
pub fn compare_rows(got: &[f32], want: &[f64], power: &[f64], bound: f64) -> Comparison {
    let whole = compare_with_power(got, want, power.iter().sum(), widened(bound, want.len()));
    if !whole.passed || got.is_empty() {
        return whole;
    }
    let m = power.len();
    let mut rows = vec![(0f64, 0f64); m];
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let (error, own) = &mut rows[i % m];
        *error += (f64::from(*got) - want).powi(2);
        *own += want * want;
    }
    let nmse = |row: usize| if rows[row].0 == 0.0 { 0.0 } else { rows[row].0 / rows[row].1.max(power[row]) };
    let Some(row) = (0..m).max_by(|a, b| nmse(*a).total_cmp(&nmse(*b))) else { return whole };
    if nmse(row) <= ROW_FACTOR * widened(bound, got.len() / m) {
        return whole;
    }
    let worst = Worst { index: row, got: f64::from(got[row]), want: want[row] };
    Comparison { nmse: nmse(row), worst: Some(worst), passed: false, ..whole }
}

/// Elements behind a result that must keep their value.
const MARGIN: usize = 256;

/// Runs a task; its result, and whether the elements behind it kept their value.
fn guarded(runtime: &Runtime, weights: &Weights, task: &Task) -> Result<(Vec<f32>, bool)> {
    Ok(split_margin(runtime.run(weights, task, MARGIN)?))
}

/// A result without the elements behind it, and whether those kept their value.
fn split_margin(mut got: Vec<f32>) -> (Vec<f32>, bool) {
    let margin = got.split_off(got.len() - MARGIN);
    (got, margin.iter().all(|v| *v == CANARY))
}

fn dequantize(runtime: &Runtime, packed: &PackedTensor, weights: &Weights) -> Result<Comparison> {
    let mut total = compare_bits(&[], &[]);
    let step = (CHECK_ELEMENTS / packed.cols().max(1)).max(1);
    for first in (0..packed.rows()).step_by(step) {
        let rows = first..packed.rows().min(first + step);
        let (got, intact) = guarded(runtime, weights, &Task::Dequantize(rows.clone()))?;
        let want = decode_rows(packed, rows.map(|row| row as u32));
        merge(&mut total, compare_bits(&got, &want).and(intact), first * packed.cols());
    }
    Ok(total)
}

/// Up to nine rows: the ends, and some between, not in order.
fn get_rows(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &Weights,
    seed: u64,
) -> Result<(usize, Comparison)> {
    let m = packed.rows() as u64;
    if m == 0 {
        return Ok((0, compare_bits(&[], &[])));
    }
    let mut random = Random::new(seed);
    let mut rows: Vec<u32> = (0..7).map(|_| (random.next_u64() % m) as u32).collect();
    rows.extend([m as u32 - 1, 0]);
    let (got, intact) = guarded(runtime, weights, &Task::GetRows(&rows))?;
    let want = decode_rows(packed, rows.iter().copied());
    Ok((rows.len(), compare_bits(&got, &want).and(intact)))
}

fn decode_rows(packed: &PackedTensor, rows: impl ExactSizeIterator<Item = u32>) -> Vec<f32> {
    let k = packed.cols();
    let mut out = vec![0f32; rows.len() * k];
    for (row, out) in rows.zip(out.chunks_mut(k.max(1))) {
        packed.decode_row(row as usize, out);
    }
    out
}

fn merge(total: &mut Comparison, part: Comparison, offset: usize) {
    total.count += part.count;
    total.different += part.different;
    total.nmse = total.nmse.max(part.nmse);
    total.passed &= part.passed;
    total.intact &= part.intact;
    total.worst = total.worst.or(part.worst.map(|w| Worst { index: w.index + offset, ..w }));
}

/// Normally distributed activations, the same for the same seed on every machine.
pub fn activations(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.normal()).collect()
}

/// A weight of random valid blocks: encoded normal numbers where the format has an encoder, random codes otherwise.
///
/// Blocks are drawn from a pool, so that large tensors are made quickly.
///
/// # Errors
/// As [`PackedTensor::new`].
pub fn random_tensor(
    name: impl Into<String>,
    format: &'static Format,
    rows: usize,
    cols: usize,
    seed: u64,
) -> Result<PackedTensor> {
    let mut random = Random::new(seed);
    let Some(of) = format.blocks() else {
        return PackedTensor::encode(name, format, rows, cols, &random_weights(rows * cols, &mut random));
    };
    let pool: Vec<Vec<u8>> = (0..POOL).map(|_| random_block(of, &mut random)).collect();
    let blocks = rows * cols.div_ceil(of.weights);
    let mut data = Vec::with_capacity(blocks * of.bytes);
    for _ in 0..blocks {
        data.extend_from_slice(&pool[(random.next_u64() % POOL) as usize]);
    }
    PackedTensor::new(name, format, rows, cols, data)
}

const POOL: u64 = 1021;

/// Normal numbers: runs of a pool, from anywhere in it.
fn random_weights(count: usize, random: &mut Random) -> Vec<f32> {
    let pool: Vec<f32> = (0..64 * POOL).map(|_| random.normal()).collect();
    let mut weights = Vec::with_capacity(count);
    while weights.len() < count {
        let run = &pool[(random.next_u64() % (63 * POOL)) as usize..][..POOL as usize];
        weights.extend_from_slice(&run[..run.len().min(count - weights.len())]);
    }
    weights
}

/// A block whose largest weight is neither tiny nor huge, so that f32 sums of many make sense.
fn random_block(format: &Blocks, random: &mut Random) -> Vec<u8> {
    let mut block = vec![0u8; format.bytes];
    let mut weights = vec![0f32; format.weights];
    if let Some(encode) = format.encode {
        weights.fill_with(|| random.normal());
        encode(&weights, &mut block);
        return block;
    }
    // A scale that can be huge is no number with all bits set. Without one any block will do: integers, and NVFP4.
    let bounded = (format.is_finite)(&vec![0xff; format.bytes]);
    loop {
        block.fill_with(|| random.next_u64() as u8);
        if bounded {
            return block;
        }
        if (format.is_finite)(&block) {
            (format.decode)(&block, &mut weights);
            let largest = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
            if (1e-2..1e2).contains(&largest) {
                return block;
            }
        }
    }
}

/// A small generator of test data (SplitMix64), the same on every machine.
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 .. 1.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// About normal, mean 0 and variance 1: the sum of twelve uniform numbers less six.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_never_passes() {
        assert!(!compare(&[f32::NAN], &[1.0], 1.0).passed);
        assert!(!compare(&[1.0], &[f64::NAN], 1.0).passed);
        assert!(!compare(&[f32::INFINITY], &[1.0], 1e300).passed);
        assert!(!compare_bits(&[f32::NAN], &[1.0]).passed);
    }

    #[test]
    fn a_zero_reference_wants_zeros() {
        assert!(compare(&[0.0, -0.0], &[0.0, 0.0], NMSE_F32).passed);
        assert!(!compare(&[1e-30], &[0.0], NMSE_F32).passed);
    }

    #[test]
    fn a_cancelled_sum_is_held_against_its_products() {
        let (got, want) = ([1.000_02e-3], [1e-3]);
        assert!(!compare(&got, &want, NMSE_F32).passed);
        assert!(compare_with_power(&got, &want, 1.0, NMSE_F32).passed);
        assert!(!compare_with_power(&[1.1e-3], &want, 1.0, NMSE_F32).passed);
    }

    #[test]
    fn a_huge_row_hides_no_other() {
        let want = [1e6, 1.0, 1.0, 1.0];
        let power = want.map(|w| w * w);
        assert!(compare_rows(&want.map(|w| w as f32), &want, &power, NMSE_F32).passed);
        let wrong = compare_rows(&[1e6, 1.0, 1.001, 1.0], &want, &power, NMSE_F32);
        assert!(!wrong.passed && wrong.worst.is_some_and(|w| w.index == 2), "{wrong}");
        assert!(compare(&[1e6, 1.0, 1.001, 1.0], &want, NMSE_F32).passed, "the whole does not see it");
    }

    #[test]
    fn lengths_must_agree() {
        assert!(!compare(&[1.0], &[1.0, 2.0], NMSE_F32).passed);
        assert!(!compare_bits(&[], &[1.0]).passed);
    }

    #[test]
    fn the_bound_catches_a_scale_that_lost_four_mantissa_bits() {
        let want: Vec<f64> = activations(1000, 1).iter().map(|v| f64::from(*v)).collect();
        let got: Vec<f32> = want.iter().map(|v| (*v * (1.0 + 1.0 / 128.0)) as f32).collect();
        assert!(!compare(&got, &want, NMSE_F32).passed);
    }

    #[test]
    fn the_worst_value_is_named() {
        let c = compare(&[1.0, 2.0, 3.0], &[1.0, 2.5, 3.1], NMSE_F32);
        assert_eq!(c.worst, Some(Worst { index: 1, got: 2.0, want: 2.5 }));
    }

    #[test]
    fn only_subnormals_may_be_flushed() {
        assert!(compare_bits(&[0.0], &[1e-40]).passed);
        assert!(!compare_bits(&[0.0], &[1e-30]).passed);
        assert!(!compare_bits(&[0.0], &[-0.0]).passed);
    }
}
