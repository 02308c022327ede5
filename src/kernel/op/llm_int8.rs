//! LLM.int8 (Dettmers et al. 2022) as a list of dispatches: activations of a batch as integers with a scale for each column of it, but
//! for the few features that are too large for that, which are multiplied as they are.
//!
//! 1. `outlier_mask`: the features that reach the threshold in any column, as bits.
//! 2. `outlier_list`: their numbers in order.
//! 3. `quantize_activations_int8`: the other features as integers.
//! 4. A kernel of eight-bit activations multiplies those.
//! 5. `gather_outliers`: the features of the list, side by side.
//! 6. A kernel of f32 activations multiplies them by their columns of the weight, and adds to the result.
//!
//! For one column one kernel does 1, 2, 3 and 5: `quantize_activations_int8_one`. Software adapters multiply f32 faster than bytes: for them 1 is
//! followed by `quantize_activations_int8_f32`, which writes the numbers that the integers stand for, the outliers among them, and one product does.
//!
//! How many features there are only the device knows; whatever depends on it stops by itself. Rules and rounding are those of
//! bitsandbytes: `x` is rounded to f16 first; a feature is an outlier where `|x| >= threshold`; the scale of a column is 127 times the
//! reciprocal of the largest magnitude below the threshold, in outlier features too; products are of dequantized INT8 weights in both parts.

use crate::error::{Error, Result};
use crate::format::uniform;
use crate::kernel::op::{
    gather_outliers, outlier_list, outlier_mask, quantize_activations_int8, quantize_activations_int8_f32,
    quantize_activations_int8_one, quantize_activations_q8,
};
use crate::kernel::plan::{self, Activated, Buffer, CHUNK, Choose, Dispatch, Params, Tiles, Weight, Window};
use crate::kernel::types::{Activations, Caps, KernelConfig, Problem, Threshold};
use std::ops::Range;

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`; see [`plan::matmul`].
///
/// # Errors
/// As there, and [`Error::Argument`] if the weights are not INT8.
pub(in crate::kernel) fn matmul(
    w: Weight,
    (batch, accumulate): (usize, bool),
    threshold: Threshold,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    if !w.layout.has_columns() {
        let (name, format) = (w.name, w.layout.format.name);
        return Err(Error::Argument(format!("`{name}`: LLM.int8 takes INT8 weights, these are {format}")));
    }
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

/// Columns whose activations, integers, gathered outliers and results each fit one binding, and their dispatches one grid.
pub(crate) fn columns_limit(w: &Weight, caps: &Caps) -> Result<usize> {
    let chunks = w.cols.div_ceil(CHUNK);
    // Gathered activations are whole chunks.
    let padded = Weight { cols: chunks * CHUNK, ..*w };
    let by_binding = plan::batch_limit(&padded, Activations::Q8, caps)?;
    let groups = plan::most_groups(caps);
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
        let words = self.list + outlier_list::HEADER_WORDS + self.chunks() * CHUNK;
        Window { buffer: Buffer::Outliers, offset: 0, size: 4 * words as u64 }
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
        plan::window(Buffer::X, columns.start * self.w.cols..columns.end * self.w.cols, self.caps)
    }

    /// The mask of the outlier features of the whole batch.
    fn mask(&self, plan: &mut Vec<Dispatch>, batch: usize, most: usize) -> Result<()> {
        let kernel = &outlier_mask::KERNEL;
        let config = plan::only_config(kernel, self.caps);
        let most = most.min(self.caps.max_loops.map_or(usize::MAX, |l| l as usize));
        for first in (0..batch).step_by(most) {
            let columns = first..batch.min(first + most);
            let (x, x_offset) = self.x(&columns);
            let groups = self.chunks() as u32;
            let params =
                Params { groups, x_offset, accumulate: u32::from(first > 0), ..self.params(&columns) };
            let (grid, config) = (plan::fold(self.w.name, groups, self.caps)?, config.clone());
            plan.push(Dispatch { kernel, config, shard: 0, params, grid, x, y: self.buffer(), side: None });
        }
        Ok(())
    }

    /// Mask and list of the outlier features of the whole batch.
    fn find(&self, plan: &mut Vec<Dispatch>, batch: usize, most: usize) -> Result<()> {
        self.mask(plan, batch, most)?;
        let kernel = &outlier_list::KERNEL;
        let config = plan::only_config(kernel, self.caps);
        let params = Params { groups: 1, ..self.params(&(0..batch)) };
        let x = Window { buffer: Buffer::X, offset: 0, size: 4 };
        plan.push(Dispatch {
            kernel,
            config,
            shard: 0,
            params,
            grid: [1, 1],
            x,
            y: self.buffer(),
            side: None,
        });
        Ok(())
    }

    /// The binding of the list, where there is one.
    fn side(&self) -> Option<Buffer> {
        self.threshold.is_some().then_some(Buffer::Outliers)
    }

    /// Integers of everything but the outliers.
    fn stage(&self, plan: &mut Vec<Dispatch>, columns: Range<usize>, to: Buffer) -> Result<Activated> {
        let kernel = &quantize_activations_int8::KERNEL;
        let config = plan::only_config(kernel, self.caps);
        let (x, x_offset) = self.x(&columns);
        let stride = (self.chunks() * quantize_activations_q8::CHUNK_WORDS) as u32;
        let groups = columns.len() as u32;
        let params = Params { groups, x_offset, y_stride: stride, ..self.params(&columns) };
        let size = 4 * u64::from(stride) * columns.len() as u64;
        let window = Window { buffer: to, offset: 0, size };
        let (grid, side) = (plan::fold(self.w.name, groups, self.caps)?, self.side());
        plan.push(Dispatch { kernel, config, shard: 0, params, grid, x, y: window, side });
        Ok(Activated { window, offset: 0, stride })
    }

    /// All of it in f32, the numbers that codes stand for and outliers among them: software adapters multiply these faster.
    fn as_f32(&self, plan: &mut Vec<Dispatch>, batch: usize, accumulate: bool, most: usize) -> Result<()> {
        let masked = self.threshold.is_some() && batch > 1;
        if masked {
            self.mask(plan, batch, most)?;
        }
        let kernel = &quantize_activations_int8_f32::KERNEL;
        let config = KernelConfig {
            constants: vec![("MASKED", masked.into())],
            ..plan::only_config(kernel, self.caps)
        };
        for first in (0..batch).step_by(most) {
            let columns = first..batch.min(first + most);
            let (x, x_offset) = self.x(&columns);
            let (groups, stride) = (columns.len() as u32, self.w.cols as u32);
            let params = Params { groups, x_offset, y_stride: stride, ..self.params(&columns) };
            let size = 4 * (self.w.cols * columns.len()) as u64;
            let window = Window { buffer: Buffer::Staged, offset: 0, size };
            let grid = plan::fold(self.w.name, groups, self.caps)?;
            let side = masked.then_some(Buffer::Outliers);
            plan.push(Dispatch {
                kernel,
                config: config.clone(),
                shard: 0,
                params,
                grid,
                x,
                y: window,
                side,
            });
            let request = Problem {
                rows: self.w.rows,
                cols: self.w.cols,
                codes: self.w.layout.codes,
                ..Problem::default()
            };
            let staged = Activated { window, offset: 0, stride };
            self.multiply(plan, self.w, columns, staged, request, (accumulate, None))?;
        }
        Ok(())
    }

    /// All of it for one column: its integers, list and outliers lie in one buffer.
    fn one(&self, plan: &mut Vec<Dispatch>, accumulate: bool) -> Result<()> {
        let kernel = &quantize_activations_int8_one::KERNEL;
        let config = plan::only_config(kernel, self.caps);
        let aligned =
            |words: usize| words.next_multiple_of((self.caps.binding_alignment as usize / 4).max(4));
        let stride = self.chunks() * quantize_activations_q8::CHUNK_WORDS;
        let list = aligned(stride);
        let outliers = aligned(list + outlier_list::HEADER_WORDS + self.chunks() * CHUNK);
        let window = |words: std::ops::Range<usize>| Window {
            buffer: Buffer::Staged,
            offset: 4 * words.start as u64,
            size: 4 * words.len() as u64,
        };
        let (x, x_offset) = self.x(&(0..1));
        let experts = [list as u32, 0, 0, outliers as u32];
        let params = Params { groups: 1, x_offset, experts, ..self.params(&(0..1)) };
        let y = window(0..outliers + self.chunks() * CHUNK);
        plan.push(Dispatch { kernel, config, shard: 0, params, grid: [1, 1], x, y, side: None });
        let staged = Activated { window: window(0..stride), offset: 0, stride: stride as u32 };
        self.multiply_integers(plan, 0..1, staged, accumulate)?;
        let end = outliers + self.chunks() * CHUNK;
        let gathered =
            Activated { window: window(outliers..end), offset: 0, stride: (self.chunks() * CHUNK) as u32 };
        self.multiply_outliers(plan, 0..1, gathered, (Buffer::Staged, list))
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
        let request = Problem {
            rows: self.w.rows,
            cols: self.w.cols,
            activations: Activations::Q8,
            codes: self.w.layout.codes,
            ..Problem::default()
        };
        self.multiply(plan, self.w, columns, staged, request, (accumulate, None))
    }

    /// The outliers, whose number is not known here: as if all features were.
    fn outliers(&self, plan: &mut Vec<Dispatch>, columns: Range<usize>) -> Result<()> {
        let kernel = &gather_outliers::KERNEL;
        let config = plan::only_config(kernel, self.caps);
        let (x, x_offset) = self.x(&columns);
        let stride = self.chunks() * CHUNK;
        let groups = (columns.len() * self.chunks()).div_ceil(config.workgroup as usize) as u32;
        let params = Params { groups, x_offset, y_stride: stride as u32, ..self.params(&columns) };
        let size = 4 * (stride * columns.len()) as u64;
        let window = Window { buffer: Buffer::Gathered, offset: 0, size };
        let (grid, side) = (plan::fold(self.w.name, groups, self.caps)?, self.side());
        plan.push(Dispatch { kernel, config, shard: 0, params, grid, x, y: window, side });
        let gathered = Activated { window, offset: 0, stride: stride as u32 };
        self.multiply_outliers(plan, columns, gathered, (Buffer::Outliers, self.list))
    }

    /// Adds the product of outliers, side by side, whose list is in this buffer from this word on.
    fn multiply_outliers(
        &self,
        plan: &mut Vec<Dispatch>,
        columns: Range<usize>,
        gathered: Activated,
        list: (Buffer, usize),
    ) -> Result<()> {
        // Codes come by the chunk, and are of no use here.
        let cols = gathered.stride as usize;
        let request = Problem { rows: self.w.rows, cols, gathered: true, ..Problem::default() };
        let w = Weight { cols, ..self.w };
        self.multiply(plan, w, columns, gathered, request, (true, Some(list)))
    }

    /// One product with all shards, in as many kernels as the columns take.
    fn multiply(
        &self,
        plan: &mut Vec<Dispatch>,
        w: Weight,
        columns: Range<usize>,
        x: Activated,
        request: Problem,
        (accumulate, list): (bool, Option<(Buffer, usize)>),
    ) -> Result<()> {
        let mut first = columns.start;
        while first < columns.end {
            let left = columns.end - first;
            let candidate = (self.choose)(&Problem { batch: left, ..request })?;
            let count = plan::columns_at_once(&w, left, &candidate.config, self.caps);
            let skipped = (first - columns.start) as u32 * x.stride;
            let x = Activated { offset: x.offset + skipped, ..x };
            for index in 0..w.shards.len() {
                let mut tiles = Tiles::of(&w, index, first..first + count, &candidate.config, self.caps);
                tiles.accumulate = accumulate;
                if let Some((buffer, at)) = list {
                    tiles.experts = [at as u32, 0, 0, 0];
                    tiles.side = Some(buffer);
                }
                plan::matmul_shard(plan, &w, &tiles, x, (candidate.kernel, &candidate.config), self.caps)?;
            }
            first += count;
        }
        Ok(())
    }
}

/// What the kernels make of activations `x[n, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    /// `[n, k]`; zero for outliers.
    pub codes: Vec<i8>,
    /// The largest magnitude below the threshold of each column of the batch, as f16 rounds it: `[n]`.
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

    /// The numbers that are multiplied for `x`: codes times their scale, outliers as they are. Exact in f64 but for the
    /// scale, which is a quotient.
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

/// The largest f16 for what is beyond it: where nothing is an outlier, something has to be multiplied.
fn finite(v: f32) -> f32 {
    v.clamp(-65_504.0, 65_504.0)
}
