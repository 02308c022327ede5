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

use super::tiles::{self, Tiles, columns_at_once};
use super::{
    gather_outliers, outlier_list, outlier_mask, quantize_activations_int8, quantize_activations_int8_f32,
    quantize_activations_int8_one, quantize_activations_q8,
};
use crate::error::{Error, Result};
use crate::format::uniform;
use crate::kernel::activations::{Activations, Threshold};
use crate::kernel::limits::{batch_limit, most_groups};
use crate::kernel::plan::{Activated, Buffer, Choose, Dispatch, Params, Window, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Batch, CHUNK, Caps, Kernel, Problem};
use std::ops::Range;

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`; see [`matmul::plan`](super::matmul::plan).
///
/// # Errors
/// As there, and [`Error::Argument`] if the weights are not INT8.
pub(in crate::kernel) fn matmul(
    w: Weight,
    Batch { columns: batch, accumulate }: Batch,
    threshold: Threshold,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    Activations::Int8(threshold).check(w.name, w.layout)?;
    let mut plan = vec![];
    if w.rows == 0 || batch == 0 {
        return Ok(plan);
    }
    let most = columns_limit(&w, caps)?;
    let job = Job { w, caps, choose, threshold, list: list_words(w.cols, caps) };
    if caps.software {
        job.as_f32(&mut plan, batch, accumulate, most)?;
        return Ok(plan);
    }
    if threshold.is_some() && batch == 1 {
        job.one(&mut plan, accumulate)?;
        return Ok(plan);
    }
    if threshold.is_some() {
        job.find(&mut plan, batch, most)?;
    }
    for first in (0..batch).step_by(most) {
        let columns = first..batch.min(first + most);
        job.integers(&mut plan, columns.clone(), accumulate)?;
        if threshold.is_some() {
            job.outliers(&mut plan, columns)?;
        }
    }
    Ok(plan)
}

/// Columns whose activations, integers, gathered outliers and results each fit one binding, and
/// their dispatches one grid.
pub(crate) fn columns_limit(w: &Weight, caps: &Caps) -> Result<usize> {
    let chunks = w.cols.div_ceil(CHUNK);
    // Gathered activations are whole chunks.
    let padded = Weight { cols: chunks * CHUNK, ..*w };
    let by_binding = batch_limit(&padded, quantize_activations_q8::words(padded.cols), caps)?;
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

/// The first half of [`matmul`] alone, into y.
///
/// # Errors
/// [`Error::LimitExceeded`] if the batch does not fit one binding.
pub(crate) fn stage(
    w: Weight,
    batch: usize,
    threshold: Threshold,
    find: Find,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    let most = columns_limit(&w, caps)?;
    if batch > most {
        let what = format!("columns of activations for `{}` at once", w.name);
        return Err(Error::LimitExceeded { what, wanted: batch as u64, limit: most as u64 });
    }
    let choose: Choose = &|_| Err(Error::Argument("nothing is multiplied".into()));
    let job = Job { w, caps, choose, threshold, list: list_words(w.cols, caps) };
    let mut plan = vec![];
    if threshold.is_some() {
        job.find(&mut plan, batch, most)?;
    }
    match find {
        Find::Codes => drop(job.stage(&mut plan, 0..batch, Buffer::Y)?),
        Find::Outliers => plan.iter_mut().for_each(|d| d.y.buffer = Buffer::Y),
    }
    Ok(plan)
}

struct Job<'a> {
    w: Weight<'a>,
    caps: &'a Caps,
    choose: Choose<'a>,
    threshold: Threshold,
    /// First word of the list.
    list: usize,
}

impl Job<'_> {
    fn chunks(&self) -> usize {
        self.w.cols.div_ceil(CHUNK)
    }

    /// Mask and list.
    fn buffer(&self) -> Window {
        Window::first(Buffer::Outliers, self.list + outlier_list::HEADER_WORDS + self.chunks() * CHUNK)
    }

    /// A dispatch of a kernel that has one configuration, and none that reads weights.
    fn dispatch(&self, kernel: &'static Kernel, params: Params) -> Result<Dispatch> {
        Dispatch::new(kernel.only(self.caps), params, self.w.name, self.caps)
    }

    fn params(&self, columns: &Range<usize>) -> Params {
        Params {
            cols: self.w.cols as u32,
            batch: columns.len() as u32,
            chunk_end: self.chunks() as u32,
            x_stride: self.w.cols as u32,
            threshold: self.threshold.value(),
            experts: [self.list as u32, 0, 0, 0],
            ..Params::default()
        }
    }

    fn x(&self, columns: &Range<usize>) -> (Window, u32) {
        window(Buffer::X, columns.start * self.w.cols..columns.end * self.w.cols, self.caps)
    }

    /// The mask of the outlier features of the whole batch.
    fn mask(&self, plan: &mut Vec<Dispatch>, batch: usize, most: usize) -> Result<()> {
        let most = most.min(self.caps.max_loops.map_or(usize::MAX, |l| l as usize));
        for first in (0..batch).step_by(most) {
            let columns = first..batch.min(first + most);
            let (x, x_offset) = self.x(&columns);
            let groups = self.chunks() as u32;
            let params =
                Params { groups, x_offset, accumulate: u32::from(first > 0), ..self.params(&columns) };
            plan.push(self.dispatch(&outlier_mask::KERNEL, params)?.reads(x).writes(self.buffer()));
        }
        Ok(())
    }

    /// Mask and list of the outlier features of the whole batch.
    fn find(&self, plan: &mut Vec<Dispatch>, batch: usize, most: usize) -> Result<()> {
        self.mask(plan, batch, most)?;
        let params = Params { groups: 1, ..self.params(&(0..batch)) };
        plan.push(self.dispatch(&outlier_list::KERNEL, params)?.writes(self.buffer()));
        Ok(())
    }

    /// The binding of the list, where there is one.
    fn side(&self) -> Option<Buffer> {
        self.threshold.is_some().then_some(Buffer::Outliers)
    }

    /// Integers of everything but the outliers.
    fn stage(&self, plan: &mut Vec<Dispatch>, columns: Range<usize>, to: Buffer) -> Result<Activated> {
        let (x, x_offset) = self.x(&columns);
        let stride = quantize_activations_q8::words(self.w.cols);
        let groups = columns.len() as u32;
        let params = Params { groups, x_offset, y_stride: stride as u32, ..self.params(&columns) };
        let window = Window::first(to, stride * columns.len());
        let dispatch = self.dispatch(&quantize_activations_int8::KERNEL, params)?;
        plan.push(dispatch.reads(x).writes(window).beside(self.side()));
        Ok(Activated { window, offset: 0, stride: stride as u32 })
    }

    /// All of it in f32, the numbers that codes stand for and outliers among them: software
    /// adapters multiply these faster.
    fn as_f32(&self, plan: &mut Vec<Dispatch>, batch: usize, accumulate: bool, most: usize) -> Result<()> {
        let masked = self.threshold.is_some() && batch > 1;
        if masked {
            self.mask(plan, batch, most)?;
        }
        let mut candidate = quantize_activations_int8_f32::KERNEL.only(self.caps);
        candidate.config.constants = vec![("MASKED", masked.into())];
        for first in (0..batch).step_by(most) {
            let columns = first..batch.min(first + most);
            let (x, x_offset) = self.x(&columns);
            let (groups, stride) = (columns.len() as u32, self.w.cols as u32);
            let params = Params { groups, x_offset, y_stride: stride, ..self.params(&columns) };
            let window = Window::first(Buffer::Staged, self.w.cols * columns.len());
            let dispatch = Dispatch::new(candidate.clone(), params, self.w.name, self.caps)?;
            let side = masked.then_some(Buffer::Outliers);
            plan.push(dispatch.reads(x).writes(window).beside(side));
            let staged = Activated { window, offset: 0, stride };
            let product = Product { problem: self.problem(Activations::F32), accumulate, list: None };
            self.multiply(plan, self.w, columns, staged, product)?;
        }
        Ok(())
    }

    /// All of it for one column: its integers, list and outliers lie in one buffer.
    fn one(&self, plan: &mut Vec<Dispatch>, accumulate: bool) -> Result<()> {
        let aligned =
            |words: usize| words.next_multiple_of((self.caps.binding_alignment as usize / 4).max(4));
        let stride = quantize_activations_q8::words(self.w.cols);
        let list = aligned(stride);
        let outliers = aligned(list + outlier_list::HEADER_WORDS + self.chunks() * CHUNK);
        let end = outliers + self.chunks() * CHUNK;
        let window = |words: Range<usize>| Window {
            buffer: Buffer::Staged,
            offset: 4 * words.start as u64,
            size: 4 * words.len() as u64,
        };
        let (x, x_offset) = self.x(&(0..1));
        let experts = [list as u32, 0, 0, outliers as u32];
        let params = Params { groups: 1, x_offset, experts, ..self.params(&(0..1)) };
        let dispatch = self.dispatch(&quantize_activations_int8_one::KERNEL, params)?;
        plan.push(dispatch.reads(x).writes(window(0..end)));
        let staged = Activated { window: window(0..stride), offset: 0, stride: stride as u32 };
        self.multiply_integers(plan, 0..1, staged, accumulate)?;
        let stride = (self.chunks() * CHUNK) as u32;
        let gathered = Activated { window: window(outliers..end), offset: 0, stride };
        self.multiply_outliers(plan, 0..1, gathered, List { buffer: Buffer::Staged, word: list })
    }

    /// The product of everything but the outliers.
    fn integers(&self, plan: &mut Vec<Dispatch>, columns: Range<usize>, accumulate: bool) -> Result<()> {
        let staged = self.stage(plan, columns.clone(), Buffer::Staged)?;
        self.multiply_integers(plan, columns, staged, accumulate)
    }

    fn multiply_integers(
        &self,
        plan: &mut Vec<Dispatch>,
        columns: Range<usize>,
        staged: Activated,
        accumulate: bool,
    ) -> Result<()> {
        let product = Product { problem: self.problem(Activations::Q8), accumulate, list: None };
        self.multiply(plan, self.w, columns, staged, product)
    }

    /// The outliers, whose number is not known here: as if all features were.
    fn outliers(&self, plan: &mut Vec<Dispatch>, columns: Range<usize>) -> Result<()> {
        let kernel = &gather_outliers::KERNEL;
        let lanes = kernel.only(self.caps).config.workgroup as usize;
        let (x, x_offset) = self.x(&columns);
        let stride = self.chunks() * CHUNK;
        let groups = (columns.len() * self.chunks()).div_ceil(lanes) as u32;
        let params = Params { groups, x_offset, y_stride: stride as u32, ..self.params(&columns) };
        let window = Window::first(Buffer::Gathered, stride * columns.len());
        plan.push(self.dispatch(kernel, params)?.reads(x).writes(window).beside(self.side()));
        let gathered = Activated { window, offset: 0, stride: stride as u32 };
        self.multiply_outliers(plan, columns, gathered, List { buffer: Buffer::Outliers, word: self.list })
    }

    /// Adds the product of outliers, side by side, that a list names.
    fn multiply_outliers(
        &self,
        plan: &mut Vec<Dispatch>,
        columns: Range<usize>,
        gathered: Activated,
        list: List,
    ) -> Result<()> {
        // Codes come by the chunk, and are of no use here.
        let cols = gathered.stride as usize;
        let problem = Problem { rows: self.w.rows, cols, gathered: true, ..Problem::default() };
        let product = Product { problem, accumulate: true, list: Some(list) };
        self.multiply(plan, Weight { cols, ..self.w }, columns, gathered, product)
    }

    /// What is asked of a kernel that multiplies by the weight.
    fn problem(&self, activations: Activations) -> Problem {
        Problem { activations, ..Problem::of(self.w.layout, self.w.rows, self.w.cols, 0) }
    }

    /// One product with all shards, in as many kernels as the columns take.
    fn multiply(
        &self,
        plan: &mut Vec<Dispatch>,
        w: Weight,
        columns: Range<usize>,
        x: Activated,
        product: Product,
    ) -> Result<()> {
        let mut first = columns.start;
        while first < columns.end {
            let left = columns.end - first;
            let candidate = (self.choose)(&Problem { batch: left, ..product.problem })?;
            let count = columns_at_once(&w, left, &candidate.config, self.caps);
            let skipped = (first - columns.start) as u32 * x.stride;
            let x = Activated { offset: x.offset + skipped, ..x };
            for index in 0..w.shards.len() {
                let mut tiles = Tiles::of(&w, index, first..first + count, &candidate.config, self.caps);
                tiles.accumulate = product.accumulate;
                if let Some(list) = &product.list {
                    tiles.experts = [list.word as u32, 0, 0, 0];
                    tiles.side = Some(list.buffer);
                }
                tiles::multiply(plan, &w, &tiles, x, &candidate, self.caps)?;
            }
            first += count;
        }
        Ok(())
    }
}

/// One of the products that LLM.int8 consists of.
struct Product {
    /// What a kernel is chosen for; the columns are those that are left.
    problem: Problem,
    accumulate: bool,
    /// Which columns of the weight, if not all.
    list: Option<List>,
}

/// Where a list of columns starts.
struct List {
    buffer: Buffer,
    word: usize,
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
        let chunks = k.div_ceil(CHUNK);
        let columns = codes.chunks(chunks * quantize_activations_q8::CHUNK_WORDS);
        let column = |words: &[u32]| {
            let bytes = words
                .chunks(quantize_activations_q8::CHUNK_WORDS)
                .flat_map(|chunk| &chunk[..8])
                .flat_map(|w| w.to_le_bytes());
            bytes.take(k).map(|q| q as i8).collect::<Vec<_>>()
        };
        let list = outliers.get(list_words(k, caps)..).unwrap_or_default();
        let count = list.first().map_or(0, |count| *count as usize);
        Self {
            codes: columns.clone().flat_map(column).collect(),
            absmax: columns
                .map(|words| f32::from_bits(words[quantize_activations_q8::CHUNK_WORDS - 1]))
                .collect(),
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
