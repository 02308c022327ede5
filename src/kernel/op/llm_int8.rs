//! LLM.int8 (Dettmers et al. 2022) as a list of dispatches: activations of a batch as integers with
//! a scale for each column of it, but for the few features that are too large for that, which are
//! multiplied as they are.
//!
//! 1. `outlier_mask`: the features that reach the threshold in any column, as bits.
//! 2. `outlier_list`: their numbers in order.
//! 3. `quantize_activations_int8`: the other features as integers.
//! 4. A kernel of eight-bit activations multiplies those.
//! 5. `gather_outliers`: the features of the list, side by side.
//! 6. A kernel of f32 activations multiplies them by their columns of the weight, and adds to the
//!    result.
//!
//! For one column one kernel does 1, 2, 3 and 5: `quantize_activations_int8_one`. Software adapters
//! multiply f32 faster than bytes: for them 1 is followed by `quantize_activations_int8_f32`, which
//! writes the numbers that the integers stand for, the outliers among them, and one product does.
//!
//! How many features there are only the device knows; whatever depends on it stops by itself. Rules
//! and rounding are those of bitsandbytes: `x` is rounded to f16 first; a feature is an outlier
//! where `|x| >= threshold`; the scale of a column is 127 times the reciprocal of the largest
//! magnitude below the threshold, in outlier features too; products are of dequantized INT8 weights
//! in both parts.

use super::product::{List, Output, Product};
use super::stage::Activated;
use super::{
    gather_outliers, outlier_list, outlier_mask, quantize_activations_int8, quantize_activations_int8_f32,
    quantize_activations_int8_one, quantize_activations_q8,
};
use crate::error::{Error, Result};
use crate::format::uniform;
use crate::kernel::activations::{Activations, Threshold};
use crate::kernel::limits::{batch_limit, most_groups};
use crate::kernel::program::{Dispatch, Plan, Units, View, Window, Workgroups};
use crate::kernel::shard::Weight;
use crate::kernel::types::{CHUNK, Candidate, Caps, Kernel, MatmulOptions, Problem};
use std::ops::{Range, RangeInclusive};

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`; see [`matmul::add`](super::matmul::add).
///
/// # Errors
/// As there, and [`Error::Argument`] if the weights are not INT8.
pub(in crate::kernel) fn add(
    plan: &mut Plan,
    w: Weight,
    x: View,
    output: Output,
    threshold: Threshold,
    options: &MatmulOptions,
) -> Result<()> {
    Activations::Int8(threshold).check(w.name, w.layout)?;
    if output.gate.is_some() {
        // The outliers are added after the integers: none of the two is the whole sum.
        return Err(Error::Argument(format!(
            "`{}`: the gate comes in with other activations than LLM.int8's",
            w.name
        )));
    }
    let blocks = blocks(plan, &w, x, Some(output.y))?;
    let job = Job { w, x, threshold, options, list: list_words(w.cols, plan.caps()) };
    if plan.caps().software {
        return job.as_f32(plan, blocks, output);
    }
    if threshold.is_some() {
        job.one(plan, output)?;
    }
    let several = if threshold.is_some() { 2..=usize::MAX } else { 0..=usize::MAX };
    if plan.tokens().most() < *several.start() {
        return Ok(());
    }
    let outliers = match threshold.is_some() {
        true => Some(job.find(plan, &blocks, None)?),
        false => None,
    };
    for block in blocks {
        let integers = job.integers(plan, block.clone(), outliers, several.clone(), None)?;
        job.multiply_integers(plan, block.clone(), integers, output, several.clone())?;
        if let Some(outliers) = outliers {
            job.outliers(plan, block, outliers, output, several.clone())?;
        }
    }
    Ok(())
}

/// Blocks of tokens whose activations, integers, gathered outliers and results each fit one binding,
/// and their dispatches two dimensions.
fn blocks(plan: &Plan, w: &Weight, x: View, y: Option<View>) -> Result<Vec<Range<usize>>> {
    let widest = x.stride.max(y.map_or(0, |y| y.stride));
    Ok(plan.blocks(columns_limit(w, widest, plan.caps())?))
}

/// Most tokens of such a block, `widest` elements apart.
pub(crate) fn columns_limit(w: &Weight, widest: usize, caps: &Caps) -> Result<usize> {
    let chunks = w.cols.div_ceil(CHUNK);
    // Gathered activations are whole chunks.
    let padded = Weight { cols: chunks * CHUNK, ..*w };
    let by_binding = batch_limit(&padded, widest.max(quantize_activations_q8::words(padded.cols)), caps)?;
    let groups = most_groups(caps);
    Ok(by_binding.min(groups).min(groups * CHUNK / chunks.max(1)).max(1))
}

/// Words of the mask, up to where the list can be bound.
pub(crate) fn list_words(cols: usize, caps: &Caps) -> usize {
    cols.div_ceil(CHUNK).next_multiple_of((caps.binding_alignment as usize / 4).max(1))
}

/// What [`stage`] leaves in y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Find {
    /// `[n, chunks, 12]` words of [`quantize_activations_q8`].
    Codes,
    /// The mask, then at word [`list_words`] the list behind its header.
    Outliers,
}

/// Words of what [`stage`] leaves of `n` tokens.
pub(crate) fn stage_words(find: Find, n: usize, cols: usize, caps: &Caps) -> usize {
    match find {
        Find::Codes => n * quantize_activations_q8::words(cols),
        Find::Outliers => mask_and_list_words(list_words(cols, caps), cols),
    }
}

/// Words of the mask and of the list, which starts at word `list`.
fn mask_and_list_words(list: usize, cols: usize) -> usize {
    list + outlier_list::HEADER_WORDS + cols.div_ceil(CHUNK) * CHUNK
}

/// The first half of [`add`] alone, into the words of y.
///
/// # Errors
/// [`Error::LimitExceeded`] if the tokens do not fit one binding.
pub(crate) fn stage(
    plan: &mut Plan,
    w: Weight,
    x: View,
    y: View,
    threshold: Threshold,
    find: Find,
) -> Result<()> {
    let (most, batch) = (columns_limit(&w, x.stride, plan.caps())?, plan.tokens().most());
    if batch > most {
        let what = format!("columns of activations for `{}` at once", w.name);
        return Err(Error::LimitExceeded { what, wanted: batch as u64, limit: most as u64 });
    }
    let options = &MatmulOptions::default();
    let job = Job { w, x, threshold, options, list: list_words(w.cols, plan.caps()) };
    let all = std::slice::from_ref(&(0..batch)).to_vec();
    let into = |found| (find == found).then_some(y.slot);
    let outliers = match threshold.is_some() {
        true => Some(job.find(plan, &all, into(Find::Outliers))?),
        false => None,
    };
    if find == Find::Codes {
        job.integers(plan, 0..batch, outliers, 0..=usize::MAX, Some(y.slot))?;
    }
    Ok(())
}

struct Job<'a> {
    w: Weight<'a>,
    x: View,
    threshold: Threshold,
    options: &'a MatmulOptions,
    /// First word of the list.
    list: usize,
}

impl Job<'_> {
    fn chunks(&self) -> usize {
        self.w.cols.div_ceil(CHUNK)
    }

    /// The configuration of a kernel for these activations.
    fn kernel(&self, kernel: &'static Kernel, x: &Activated, plan: &Plan) -> Candidate {
        kernel.first(plan.caps(), &x.problem(Problem::default()))
    }

    /// The mask of the outlier features of all tokens into a slot.
    fn mask(
        &self,
        plan: &mut Plan,
        blocks: &[Range<usize>],
        tokens: &RangeInclusive<usize>,
        to: Window,
    ) -> Result<()> {
        let loops = plan.caps().max_loops.map_or(usize::MAX, |loops| loops as usize);
        let parts = blocks.iter().flat_map(|block| {
            let starts = block.clone().step_by(loops);
            starts.map(move |first| first..block.end.min(first.saturating_add(loops)))
        });
        for block in parts {
            let x = Activated::given(self.x, block.clone(), plan);
            let params = outlier_mask::Params {
                cols: self.w.cols as u32,
                x_offset: x.offset,
                x_stride: x.stride,
                groups: self.chunks() as u32,
                accumulate: u32::from(block.start > 0),
                threshold: self.threshold.value(),
            };
            let candidate = self.kernel(&outlier_mask::KERNEL, &x, plan);
            let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(params.groups));
            let units = Units { tokens: tokens.clone(), ..Units::of(block) };
            plan.push(units, vec![dispatch.slot("x", x.window).slot("y", to)])?;
        }
        Ok(())
    }

    /// Mask and list of the outlier features of all tokens, in a slot of the caller's or our own.
    fn find(&self, plan: &mut Plan, blocks: &[Range<usize>], into: Option<usize>) -> Result<Window> {
        let slot = into.unwrap_or_else(|| plan.scratch("outlier features"));
        let window = Window::words(slot, 0..mask_and_list_words(self.list, self.w.cols));
        // For one token alone only where there is no other way.
        let tokens = if into.is_some() || plan.tokens().most() == 1 { 0 } else { 2 }..=usize::MAX;
        self.mask(plan, blocks, &tokens, window)?;
        let params = outlier_list::Params { chunk_end: self.chunks() as u32, list: self.list as u32 };
        let candidate = outlier_list::KERNEL.only(plan.caps());
        let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(1)).slot("y", window);
        plan.push(Units { tokens, per: 0, ..Units::of(0..1) }, vec![dispatch])?;
        Ok(window)
    }

    /// Integers of everything but the outliers.
    fn integers(
        &self,
        plan: &mut Plan,
        block: Range<usize>,
        outliers: Option<Window>,
        tokens: RangeInclusive<usize>,
        into: Option<usize>,
    ) -> Result<Activated> {
        let x = Activated::given(self.x, block.clone(), plan);
        let stride = quantize_activations_q8::words(self.w.cols);
        let params = quantize_activations_int8::Params {
            cols: self.w.cols as u32,
            chunk_end: self.chunks() as u32,
            x_offset: x.offset,
            x_stride: x.stride,
            y_stride: stride as u32,
            threshold: self.threshold.value(),
        };
        let slot = into.unwrap_or_else(|| plan.scratch("activations as integers"));
        let window = Window::words(slot, 0..stride * block.len());
        let config = quantize_activations_int8::config(&x.problem(Problem::default()), outliers.is_some());
        let candidate = Candidate { kernel: &quantize_activations_int8::KERNEL, config };
        // A workgroup takes a token.
        let workgroups = Workgroups::Lanes { lanes: 1, elements: 1 };
        let mut dispatch = Dispatch::new(candidate, &params, workgroups);
        dispatch = dispatch.slot("x", x.window).slot("y", window);
        if let Some(outliers) = outliers {
            dispatch = dispatch.slot("outliers", outliers);
        }
        plan.push(Units { tokens, ..Units::of(block) }, vec![dispatch])?;
        Ok(Activated::written(window, stride))
    }

    /// All of it in f32, the numbers that codes stand for and outliers among them: software
    /// adapters multiply these faster.
    fn as_f32(&self, plan: &mut Plan, blocks: Vec<Range<usize>>, output: Output) -> Result<()> {
        let most = plan.tokens().most();
        let masked = self.threshold.is_some() && most > 1;
        let several = 2..=usize::MAX;
        let mut outliers = None;
        if masked {
            let window = Window::words(plan.scratch("outlier features"), 0..self.chunks());
            self.mask(plan, &blocks, &several, window)?;
            outliers = Some(window);
        }
        for block in blocks {
            let window = Window::words(plan.scratch("activations as integers"), 0..self.w.cols * block.len());
            // Of one token a feature is an outlier if it is one itself.
            let mut numbers = vec![];
            if !masked || block.start == 0 {
                numbers.push((if masked { 0..=1 } else { 0..=usize::MAX }, None));
            }
            if masked {
                numbers.push((several.clone(), outliers));
            }
            for (tokens, outliers) in numbers {
                let x = Activated::given(self.x, block.clone(), plan);
                let dispatch = self.rounded(&x, outliers, window);
                plan.push(Units { tokens, ..Units::of(block.clone()) }, vec![dispatch])?;
            }
            let x = Activated::written(window, self.w.cols);
            let x = Activated { unaligned: !self.w.cols.is_multiple_of(4), ..x };
            let problem = self.problem(Activations::F32);
            let (w, list, options) = (self.w, None, self.options);
            Product { w, block, x, output, problem, list, options }.add(plan)?;
        }
        Ok(())
    }

    fn rounded(&self, x: &Activated, outliers: Option<Window>, to: Window) -> Dispatch {
        let params = quantize_activations_int8_f32::Params {
            cols: self.w.cols as u32,
            x_offset: x.offset,
            x_stride: x.stride,
            y_stride: self.w.cols as u32,
            threshold: self.threshold.value(),
        };
        let config =
            quantize_activations_int8_f32::config(&x.problem(Problem::default()), outliers.is_some());
        let candidate = Candidate { kernel: &quantize_activations_int8_f32::KERNEL, config };
        let dispatch = Dispatch::new(candidate, &params, Workgroups::Lanes { lanes: 1, elements: 1 });
        let dispatch = dispatch.slot("x", x.window).slot("y", to);
        match outliers {
            Some(window) => dispatch.slot("outliers", window),
            None => dispatch,
        }
    }

    /// All of it for one token: its integers, list and outliers lie in one buffer.
    fn one(&self, plan: &mut Plan, output: Output) -> Result<()> {
        let aligned =
            |words: usize| words.next_multiple_of((plan.caps().binding_alignment as usize / 4).max(4));
        let stride = quantize_activations_q8::words(self.w.cols);
        let list = aligned(stride);
        let outliers = aligned(list + outlier_list::HEADER_WORDS + self.chunks() * CHUNK);
        let end = outliers + self.chunks() * CHUNK;
        let x = Activated::given(self.x, 0..1, plan);
        let params = quantize_activations_int8_one::Params {
            cols: self.w.cols as u32,
            chunk_end: self.chunks() as u32,
            x_offset: x.offset,
            list: list as u32,
            values: outliers as u32,
            threshold: self.threshold.value(),
        };
        let candidate = self.kernel(&quantize_activations_int8_one::KERNEL, &x, plan);
        let slot = plan.scratch("activations as integers");
        let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(1));
        let dispatch = dispatch.slot("x", x.window).slot("y", Window::words(slot, 0..end));
        let tokens = 1..=1;
        plan.push(Units { tokens: tokens.clone(), ..Units::of(0..1) }, vec![dispatch])?;
        let integers = Activated::written(Window::words(slot, 0..stride), stride);
        self.multiply_integers(plan, 0..1, integers, output, tokens.clone())?;
        let gathered = Activated::written(Window::words(slot, outliers..end), self.chunks() * CHUNK);
        let list = List { window: Window::words(slot, 0..end), word: list };
        self.multiply_outliers(plan, 0..1, gathered, list, output, tokens)
    }

    /// The product of everything but the outliers.
    fn multiply_integers(
        &self,
        plan: &mut Plan,
        block: Range<usize>,
        x: Activated,
        output: Output,
        tokens: RangeInclusive<usize>,
    ) -> Result<()> {
        let problem = self.problem(Activations::Q8);
        let units = Units { tokens, ..Units::of(block.clone()) };
        let (w, list, options) = (self.w, None, self.options);
        Product { w, block, x, output, problem, list, options }.add_for(plan, units)
    }

    /// The outliers, whose number is not known here: as if all features were.
    fn outliers(
        &self,
        plan: &mut Plan,
        block: Range<usize>,
        outliers: Window,
        output: Output,
        tokens: RangeInclusive<usize>,
    ) -> Result<()> {
        let x = Activated::given(self.x, block.clone(), plan);
        let stride = self.chunks() * CHUNK;
        let params = gather_outliers::Params {
            x_offset: x.offset,
            x_stride: x.stride,
            y_stride: stride as u32,
            list: self.list as u32,
        };
        let candidate = self.kernel(&gather_outliers::KERNEL, &x, plan);
        let elements = self.chunks() as u32;
        let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements };
        let window = Window::words(plan.scratch("outliers side by side"), 0..stride * block.len());
        let dispatch = Dispatch::new(candidate, &params, workgroups).slot("x", x.window);
        let units = Units { tokens: tokens.clone(), ..Units::of(block.clone()) };
        plan.push(units, vec![dispatch.slot("y", window).slot("list", outliers)])?;
        let list = List { window: outliers, word: self.list };
        self.multiply_outliers(plan, block, Activated::written(window, stride), list, output, tokens)
    }

    /// Adds the product of outliers, side by side, that a list names.
    fn multiply_outliers(
        &self,
        plan: &mut Plan,
        block: Range<usize>,
        x: Activated,
        list: List,
        output: Output,
        tokens: RangeInclusive<usize>,
    ) -> Result<()> {
        // Codes come by the chunk, and are of no use here.
        let cols = x.stride as usize;
        let problem = Problem { rows: self.w.rows, cols, gathered: true, ..Problem::default() };
        let units = Units { tokens, ..Units::of(block.clone()) };
        let w = Weight { cols, ..self.w };
        let (output, list) = (Output { accumulate: true, ..output }, Some(list));
        Product { w, block, x, output, problem, list, options: self.options }.add_for(plan, units)
    }

    /// What is asked of a kernel that multiplies by the weight.
    fn problem(&self, activations: Activations) -> Problem {
        Problem { activations, ..Problem::of(self.w.layout, self.w.rows, self.w.cols, 0) }
    }
}

/// What the kernels make of activations `x[n, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    /// `[n, k]`; zero for outliers.
    pub codes: Vec<i8>,
    /// The largest magnitude below the threshold of each column of the batch, as f16 rounds it:
    /// `[n]`.
    pub absmax: Vec<f32>,
    /// The outlier features, in order.
    pub outliers: Vec<u32>,
}

impl Staged {
    /// From what [`stage`] leaves in y for [`Find::Codes`] and [`Find::Outliers`].
    pub(crate) fn from_words(codes: &[u32], outliers: &[u32], k: usize, caps: &Caps) -> Self {
        use quantize_activations_q8::{CHUNK_WORDS, word_place, words};
        let columns = codes.chunks(words(k).max(1));
        let column = |words: &[u32]| {
            let places = (0..k.div_ceil(CHUNK)).flat_map(|chunk| (0..8).map(move |i| word_place(chunk, i)));
            let bytes = places.flat_map(|place| words[place].to_le_bytes());
            bytes.take(k).map(|q| q as i8).collect::<Vec<_>>()
        };
        let list = outliers.get(list_words(k, caps)..).unwrap_or_default();
        let count = list.first().map_or(0, |count| *count as usize);
        Self {
            codes: columns.clone().flat_map(column).collect(),
            absmax: columns.map(|words| f32::from_bits(words[word_place(0, CHUNK_WORDS - 1)])).collect(),
            outliers: list.iter().skip(outlier_list::HEADER_WORDS).take(count).copied().collect(),
        }
    }

    /// The CPU's twin of the kernels: the same codes, exactly.
    pub fn of(x: &[f32], k: usize, threshold: Threshold) -> Self {
        let rows: Vec<Vec<f32>> =
            x.chunks(k.max(1)).map(|row| row.iter().map(|v| half(*v)).collect()).collect();
        let is_outlier = |v: f32| threshold.is_some() && v.abs() >= threshold.value();
        let outliers: Vec<u32> =
            (0..k).filter(|i| rows.iter().any(|row| is_outlier(row[*i]))).map(|i| i as u32).collect();
        let inside = |row: &Vec<f32>| {
            row.iter().filter(|v| !is_outlier(**v)).fold(0f32, |max, v| max.max(finite(*v).abs()))
        };
        let absmax: Vec<f32> = rows.iter().map(inside).collect();
        let mut codes: Vec<i8> = Vec::with_capacity(x.len());
        for (row, absmax) in rows.iter().zip(&absmax) {
            let scale = uniform::int8_scale(*absmax);
            codes.extend(row.iter().map(|v| (finite(*v) * scale).round_ties_even() as i8));
        }
        for row in codes.chunks_mut(k.max(1)) {
            outliers.iter().for_each(|i| row[*i as usize] = 0);
        }
        Self { codes, absmax, outliers }
    }

    /// The numbers that are multiplied for `x`: codes times their scale, outliers as they are.
    /// Exact in f64 but for the scale, which is a quotient.
    pub fn values(&self, x: &[f32], k: usize) -> Vec<f64> {
        let scale = |i: usize| f64::from(self.absmax[i / k]) / 127.0;
        let mut values: Vec<f64> =
            self.codes.iter().enumerate().map(|(i, q)| f64::from(*q) * scale(i)).collect();
        for (row, x) in values.chunks_mut(k.max(1)).zip(x.chunks(k.max(1))) {
            self.outliers.iter().for_each(|i| row[*i as usize] = f64::from(x[*i as usize]));
        }
        values
    }
}

/// `v` as f16 has it; infinite beyond it.
fn half(v: f32) -> f32 {
    half::f16::from_f32(v).to_f32()
}

/// The largest f16 for what is beyond it: where nothing is an outlier, something has to be
/// multiplied.
fn finite(v: f32) -> f32 {
    v.clamp(-65_504.0, 65_504.0)
}
