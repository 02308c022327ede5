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
//!   than the others, and the whole then says nothing about those. In a mixture, each row of each expert.
//! * A row is skipped, and told to be, where sums on the way may be infinite on any device: where √(k · Σ(x·w)²), which no sum of
//!   so many products exceeds, is beyond f32.
//! * Activations that are rounded on the way: the same bounds against a CPU twin that rounds them alike, bit for bit. And
//!   against the activations as they are, [`NMSE_F16`] or [`NMSE_Q8`], which says that what was rounded was the right thing. A
//!   kernel that rounds weights to f16 as well, as cooperative matrices must, is held to [`NMSE_F16`] alone.
//! * Rounding errors are random: few outputs stray further than many do, so their bounds are wider, by 1 + 16 / count.

use crate::error::{Error, Result};
use crate::format::{Blocks, Format, Layout};
use crate::gpu::{CANARY, Layer, Runtime, Task, Upload, Weights};
use crate::kernel::{self, Activations, MatmulOptions, Problem, reference};
use crate::linear::{Linear, Lora};
use crate::tensor::PackedTensor;
use serde::Serializer;
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
    #[serde(serialize_with = "number")]
    pub got: f64,
    /// What the reference says.
    #[serde(serialize_with = "number")]
    pub want: f64,
}

/// JSON has neither NaN nor infinity, and a report of a wrong value must tell it: as text then.
fn number<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.collect_str(value) }
}

/// A result held against its reference.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Comparison {
    /// Number of values compared.
    pub count: usize,
    /// Number of values that are not, as their sums might be beyond f32 on the way.
    pub skipped: usize,
    /// Σ(got − want)² / Σ want²; infinite if one side alone is not finite.
    #[serde(serialize_with = "number")]
    pub nmse: f64,
    /// Values whose bits differ, for comparisons that ask for equal bits.
    pub different: usize,
    /// The largest difference.
    pub worst: Option<Worst>,
    /// True if nothing was written behind the result.
    pub intact: bool,
    /// True if the result is right.
    pub passed: bool,
    /// What was said where the driver refused the operation, so that there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Comparison {
    /// No values, which are right.
    pub fn nothing() -> Self {
        Self {
            count: 0,
            skipped: 0,
            nmse: 0.0,
            different: 0,
            worst: None,
            intact: true,
            passed: true,
            refused: None,
        }
    }

    /// Of an operation that the driver refuses to carry out, as it may refuse a shader: it failed, and others may not.
    fn or_refused(result: Result<Self>) -> Result<Self> {
        match result {
            Err(error @ Error::Gpu { .. }) => {
                let refused = Some(error.to_string());
                Ok(Self { nmse: f64::INFINITY, passed: false, refused, ..Self::nothing() })
            }
            other => other,
        }
    }

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
    let values = got.iter().zip(want).enumerate();
    let mut sums = Sums::default();
    values.for_each(|(index, (got, want))| sums.add(Worst { index, got: f64::from(*got), want: *want }));
    let compared = sums.compared(least_power, bound);
    Comparison { passed: compared.passed && got.len() == want.len(), ..compared }
}

/// What a comparison adds up.
#[derive(Clone, Default)]
struct Sums {
    count: usize,
    error: f64,
    power: f64,
    worst: Option<(f64, Worst)>,
}

impl Sums {
    fn add(&mut self, value: Worst) {
        let Worst { got, want, .. } = value;
        let difference = match (got.is_finite(), want.is_finite()) {
            (true, true) => (got - want).abs(),
            _ if got == want || (got.is_nan() && want.is_nan()) => 0.0,
            _ => f64::INFINITY,
        };
        if difference > self.worst.map_or(0.0, |(d, _)| d) {
            self.worst = Some((difference, value));
        }
        self.count += 1;
        self.error += difference * difference;
        self.power += if want.is_finite() { want * want } else { 0.0 };
    }

    fn nmse(&self, least_power: f64) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.power.max(least_power) }
    }

    /// Held against a bound.
    fn compared(&self, least_power: f64, bound: f64) -> Comparison {
        let (nmse, worst) = (self.nmse(least_power), self.worst.map(|(_, worst)| worst));
        Comparison { count: self.count, nmse, worst, passed: nmse <= bound, ..Comparison::nothing() }
    }
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
    Comparison { count: got.len(), nmse, different, worst, passed, ..Comparison::nothing() }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(refused) = &self.refused {
            return write!(f, "REFUSED, {refused}");
        }
        let verdict = if self.passed { "ok" } else { "WRONG" };
        write!(f, "{verdict}, nmse {:.1e}", self.nmse)?;
        if let (Some(w), false) = (&self.worst, self.passed) {
            write!(f, ", index {}: got {}, want {}", w.index, w.got, w.want)?;
        }
        if self.skipped > 0 {
            write!(f, ", {} of {} beyond f32 not compared", self.skipped, self.skipped + self.count)?;
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
/// A plain tensor with NaN or infinity, as files of statistics hold, and one without columns are not multiplied, nor is one of millions of
/// columns and no rows. Activations come from `seed`. Activations `q8` do not apply to plain numbers, which are then taken as they are.
///
/// # Errors
/// The device's errors, but for those of a single operation: one that is refused, as one with a wrong result, is an [`Outcome`] that
/// did not pass.
pub fn tensor(
    runtime: &Runtime,
    packed: &PackedTensor,
    batches: &[usize],
    options: &MatmulOptions,
    seed: u64,
) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![];
    tensor_into(&mut outcomes, runtime, packed, batches, options, seed)?;
    Ok(outcomes)
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
    let all = Comparison::or_refused(dequantize(runtime, packed, &weights))?;
    outcomes.push(decoded("dequantize", 0, all));
    let rows = rows_to_look_up(packed.rows(), seed);
    let some = Comparison::or_refused(get_rows(runtime, packed, &weights, &rows))?;
    outcomes.push(decoded("get_rows", rows.len(), some));
    let options = &applicable(packed, options);
    for &n in batches.iter().filter(|_| finite && packed.cols() > 0) {
        outcomes.push(product(runtime, packed, &weights, n, options, seed)?);
    }
    Ok(())
}

/// A file of no bytes may claim so many rows of no columns that a device takes minutes to compare nothing, or so many columns
/// of no rows that their activations take gigabytes.
fn is_vast_nothing(packed: &PackedTensor) -> bool {
    let (rows, cols) = (packed.rows(), packed.cols());
    rows.min(cols) == 0 && rows.max(cols) > CHECK_ELEMENTS
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
    let kernel = runtime.kernels(weights, n, options)?;
    let comparison = Comparison::or_refused(matmul(runtime, packed, weights, &x, options))?;
    let ran = Ran { kernel, activations: options.activations, comparison };
    Ok(Outcome::new(packed, ("matmul", n), ran))
}

/// Checks a matmul of each of `batches` by every kernel and variant that the device could be asked for, not the best alone.
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
    let (layout, weights) = (packed.layout(), runtime.upload(packed)?);
    for &n in batches {
        let request = Problem {
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
    Ok(())
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
    let more = |adapters: usize, low_rank: &Lora| adapters + low_rank.rank();
    let kept = linear.kept().map_or(0, |kept| kept.columns().len());
    let terms = linear.adapters().iter().fold(linear.weight().cols() + kept + 1, more);
    let rows = Rows { power: &power, terms, of: &|output| output % power.len() };
    let want = |activations| reference::linear(linear, x, activations);
    Ok(judge_against(&got, &rows, options.activations, rounds, want)?.and(intact))
}

/// Checks a weight with its bias, kept columns and adapters for each of `batches`, as [`tensor`] checks the weight alone.
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
            comparison: Comparison::or_refused(layer(runtime, linear, &uploaded, &x, &options))?,
        };
        let operation = if linear.adapters().is_empty() { "layer" } else { "lora" };
        outcomes.push(Outcome::new(packed, (operation, n), ran));
    }
    Ok(())
}

/// True if activations can be taken so for weights of this layout.
pub fn applies(layout: &Layout, activations: Activations) -> bool {
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

/// The same for a mixture of experts, which LLM.int8 is not for.
fn for_experts(packed: &PackedTensor, options: &MatmulOptions) -> MatmulOptions {
    match options.activations {
        Activations::Int8(_) => MatmulOptions::default(),
        _ => applicable(packed, options),
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
    let (stack, rounds) = (weights.experts(), runtime.rounds_weights(weights, &task)?);
    let power = reference::experts_power(packed, stack, x, experts)?;
    let m = packed.rows() / stack;
    let of = |output: usize| experts[output / m] as usize * m + output % m;
    let rows = Rows { power: &power, terms: packed.cols(), of: &of };
    let want = |activations| reference::matmul_experts(packed, stack, x, experts, activations);
    Ok(judge_against(&got, &rows, options.activations, rounds, want)?.and(intact))
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
    let options = &for_experts(packed, options);
    let x = activations(n * packed.cols(), seed);
    let mut random = Random::new(seed);
    let per = stack.min(2);
    let expert = |i: usize| if i.is_multiple_of(per) { 0 } else { (random.next_u64() % stack as u64) as u32 };
    let ids: Vec<u32> = (0..n * per).map(expert).collect();
    let ran = Ran {
        kernel: runtime.task_kernels(&weights, &Task::Experts(&x, &ids, options))?,
        activations: options.activations,
        comparison: Comparison::or_refused(matmul_experts(runtime, packed, &weights, &x, &ids, options))?,
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
/// [`Error::Shape`] if `x` is not a whole number of columns.
pub fn judge(
    got: &[f32],
    packed: &PackedTensor,
    x: &[f32],
    activations: Activations,
    rounds_weights: bool,
) -> Result<Comparison> {
    let power = reference::row_power(packed, x)?;
    let rows = Rows { power: &power, terms: packed.cols(), of: &|output| output % power.len() };
    judge_against(got, &rows, activations, rounds_weights, |a| reference::matmul_with(packed, x, a))
}

/// The rows that outputs belong to.
struct Rows<'a> {
    /// The power of the products of each, Σ(x·w)².
    power: &'a [f64],
    /// How many products one output has.
    terms: usize,
    /// Of which row an output is.
    of: &'a dyn Fn(usize) -> usize,
}

impl Rows<'_> {
    /// True if a sum of products of this row may be beyond f32, by the inequality of Cauchy and Schwarz.
    fn may_overflow(&self, row: usize) -> bool {
        self.terms as f64 * self.power[row] >= f64::from(f32::MAX).powi(2)
    }
}

/// Holds `got` against what `want` says for these activations, and for exact ones.
fn judge_against(
    got: &[f32],
    rows: &Rows,
    activations: Activations,
    rounds_weights: bool,
    want: impl Fn(Activations) -> Result<Vec<f64>>,
) -> Result<Comparison> {
    let (twin, exact) = bounds(activations, rounds_weights);
    let against_exact = compare_rows(got, &want(Activations::F32)?, rows, exact);
    if activations == Activations::F32 {
        return Ok(against_exact);
    }
    Ok(worse(compare_rows(got, &want(activations)?, rows, twin), against_exact))
}

/// Holds `got` against `want` as a whole at `bound`, and row by row.
fn compare_rows(got: &[f32], want: &[f64], rows: &Rows, bound: f64) -> Comparison {
    let (mut whole, mut skipped) = (Sums::default(), 0);
    let mut sums = vec![Sums::default(); rows.power.len()];
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let (value, row) = (Worst { index, got: f64::from(*got), want: *want }, (rows.of)(index));
        if rows.may_overflow(row) {
            skipped += 1;
        } else {
            whole.add(value);
            sums[row].add(value);
        }
    }
    let compared_rows = (0..rows.power.len()).filter(|row| !rows.may_overflow(*row));
    let least_power = compared_rows.map(|row| rows.power[row]).sum();
    let compared = whole.compared(least_power, widened(bound, whole.count));
    let compared = Comparison { passed: compared.passed && got.len() == want.len(), skipped, ..compared };
    let beyond = |(row, power): (&Sums, &f64)| row.nmse(*power) / widened(bound, row.count);
    let worst = sums.iter().zip(rows.power).max_by(|a, b| beyond(*a).total_cmp(&beyond(*b)));
    match worst {
        Some((row, power)) if compared.passed && beyond((row, power)) > ROW_FACTOR => {
            Comparison { count: whole.count, skipped, ..row.compared(*power, 0.0) }
        }
        _ => compared,
    }
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
    let mut total = Comparison::nothing();
    let step = (CHECK_ELEMENTS / packed.cols().max(1)).max(1);
    for first in (0..packed.rows()).step_by(step) {
        let rows = first..packed.rows().min(first + step);
        let (got, intact) = guarded(runtime, weights, &Task::Dequantize(rows.clone()))?;
        let want = decode_rows(packed, rows.map(|row| row as u32));
        merge(&mut total, compare_bits(&got, &want).and(intact), first * packed.cols());
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

fn get_rows(runtime: &Runtime, packed: &PackedTensor, weights: &Weights, rows: &[u32]) -> Result<Comparison> {
    if rows.is_empty() {
        return Ok(Comparison::nothing());
    }
    let (got, intact) = guarded(runtime, weights, &Task::GetRows(rows))?;
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

    fn rows<'a>(power: &'a [f64], of: &'a dyn Fn(usize) -> usize) -> Rows<'a> {
        Rows { power, terms: 1, of }
    }

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
        let compare_rows = |got: &[f32]| compare_rows(got, &want, &rows(&power, &|i| i), NMSE_F32);
        assert!(compare_rows(&want.map(|w| w as f32)).passed);
        let wrong = compare_rows(&[1e6, 1.0, 1.001, 1.0]);
        assert!(!wrong.passed && wrong.worst.is_some_and(|w| w.index == 2), "{wrong}");
        assert!(compare(&[1e6, 1.0, 1.001, 1.0], &want, NMSE_F32).passed, "the whole does not see it");
    }

    /// Two rows and three columns, of which the last is wrong in the small row.
    #[test]
    fn a_wrong_row_is_placed_in_its_column() {
        let want = [1e6, 1.0, 1e6, 1.0, 1e6, 1.0];
        let got = [1e6, 1.0, 1e6, 1.0, 1e6, 1.5];
        let wrong = compare_rows(&got, &want, &rows(&[3e12, 3.0], &|i| i % 2), NMSE_F32);
        assert_eq!(wrong.worst, Some(Worst { index: 5, got: 1.5, want: 1.0 }), "{wrong}");
    }

    #[test]
    fn sums_beyond_f32_are_not_held_against_a_device() {
        let (want, power) = ([1.8e39, 1.0], [1e78, 1.0]);
        let (both, first) = (rows(&power, &|i| i), rows(&power[..1], &|i| i));
        let right = compare_rows(&[f32::NAN, 1.0], &want, &both, NMSE_F32);
        assert!(right.passed && (right.count, right.skipped) == (1, 1), "{right:?}");
        assert!(right.to_string().ends_with("1 of 2 beyond f32 not compared"), "{right}");
        assert!(!compare_rows(&[f32::INFINITY, 1.5], &want, &both, NMSE_F32).passed);
        let nothing = compare_rows(&[f32::NAN], &want[..1], &first, NMSE_F32);
        assert!(nothing.passed && (nothing.count, nothing.skipped) == (0, 1));
        // Seven products of 1e38 each have no larger sum than f32 holds only if their signs differ; three always.
        let power = |terms: i32| [f64::from(terms) * 1e76];
        let of =
            |terms: i32, power: &[f64]| Rows { power, terms: terms as usize, of: &|i| i }.may_overflow(0);
        assert!(of(7, &power(7)) && !of(3, &power(3)));
    }

    /// A weight that is no number leaves no room for a right result, but another's that is none.
    #[test]
    fn rows_without_numbers_are_compared() {
        let power = [f64::NAN];
        assert!(!compare_rows(&[1.0], &[f64::NAN], &rows(&power, &|i| i), NMSE_F32).passed);
    }

    #[test]
    fn reports_hold_what_json_has_no_numbers_for() {
        let wrong = compare(&[f32::NAN, 1.0], &[1.0, 1.0], NMSE_F32);
        let json = serde_json::to_value(&wrong).expect("plain data");
        assert_eq!((&json["nmse"], &json["worst"]["got"]), (&"inf".into(), &"NaN".into()), "{json}");
        assert_eq!(json["worst"]["want"], 1.0);
    }

    #[test]
    fn a_refused_operation_failed_and_a_lost_device_is_an_error() {
        let refusal = Error::Gpu { doing: "compiling `gemv`".into(), message: "no".into() };
        let refused = Comparison::or_refused(Err(refusal)).expect("an outcome");
        assert!(!refused.passed && refused.to_string() == "REFUSED, compiling `gemv`: no", "{refused}");
        assert!(Comparison::or_refused(Err(Error::DeviceLost("gone".into()))).is_err());
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
