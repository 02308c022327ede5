//! Encoding on the device.

use super::context::Context;
use super::memory::Buffer as DeviceBuffer;
use super::record::{BoundProgram, Io};
use super::runtime::Runtime;
use super::{pack, transfer};
use crate::error::{Error, Result};
use crate::format::four_bit::{self, Recipe, Table};
use crate::format::{self, Format, affine, bnb4};
use crate::kernel::Threshold;
use crate::kernel::limits::QUANTIZE_WEIGHTS;
use crate::kernel::llm_int8::{self, Find, Staged};
use crate::kernel::op::quantize_four_bit;
use crate::kernel::plan::{self, Buffer};
use crate::kernel::shard::{DeviceLayout, Weight};
use crate::tensor::{PackedTensor, check_count, check_finite, four_bit_table};
use std::ops::Range;
use std::sync::Arc;

/// Codes and scales as they come back, window after window.
#[derive(Default)]
struct Encoded {
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

impl Runtime {
    /// [`PackedTensor::encode`] with the device's help: the same bytes. NF4, FP4 and INT8 have an encoder there; all other formats
    /// are encoded by the CPU.
    ///
    /// It pays where the weights already lie on the device ([`Runtime::encode_buffer`]), or where copying them there is faster than
    /// the processor is: 4 bytes a weight go up, and a little more than half a byte (INT8: one and a half) comes back. `docs/lab/2026-11-21-encode-four-bit.md` has figures.
    ///
    /// # Errors
    /// As [`PackedTensor::encode`], and the device's errors.
    pub fn encode(
        &self,
        name: impl Into<String>,
        format: &'static Format,
        rows: usize,
        cols: usize,
        weights: &[f32],
    ) -> Result<PackedTensor> {
        match bnb4::table(format) {
            Some(_) => self.encode_four_bit(name, format, (rows, cols), weights, Recipe::default()),
            None if format == format::INT8 => self.encode_int8(&name.into(), format, (rows, cols), weights),
            None => PackedTensor::encode(name, format, rows, cols, weights),
        }
    }

    /// [`PackedTensor::encode_four_bit`] on the device: the same bytes. Scales that are to be quantized themselves are so on the CPU.
    ///
    /// # Errors
    /// As there, and the device's errors.
    pub fn encode_four_bit(
        &self,
        name: impl Into<String>,
        format: &'static Format,
        shape: (usize, usize),
        weights: &[f32],
        recipe: Recipe,
    ) -> Result<PackedTensor> {
        let name = name.into();
        let table = four_bit_table(&name, format, recipe)?;
        check_count(&name, shape, weights.len())?;
        self.context().check()?;
        let most = quantize_four_bit::most_weights(&name, self.caps())?;
        // Read four weights at a time.
        let bytes = weights.len().min(most).next_multiple_of(4) as u64 * 4;
        let x = transfer::buffer(
            self.context(),
            &format!("weights of `{name}` to encode"),
            bytes,
            transfer::INPUT,
        )?;
        let encoder = Encoder::new(self.context(), &name, table, recipe)?;
        let mut encoded = Encoded::default();
        for weights in weights.chunks(most) {
            upload_floats(self.context(), &x, weights)?;
            encoder.window(&x, 0..weights.len(), &mut encoded)?;
        }
        // One scale that is not finite tells of its block.
        if !encoded.absmax.iter().all(|scale| scale.is_finite()) {
            check_finite(&format!("tensor `{name}`"), weights)?;
        }
        encoder.finish(shape, encoded)
    }

    /// LLM.int8 makes of a row of weights what it makes of a column of activations: their kernel, without a threshold.
    fn encode_int8(
        &self,
        name: &str,
        format: &'static Format,
        (rows, cols): (usize, usize),
        weights: &[f32],
    ) -> Result<PackedTensor> {
        let by_cpu = || PackedTensor::encode(name, format, rows, cols, weights);
        if weights.is_empty() || rows.checked_mul(cols) != Some(weights.len()) {
            return by_cpu();
        }
        check_finite(&format!("tensor `{name}`"), weights)?;
        self.context().check()?;
        let job = Int8Encoder::new(self.context(), name, format.layout(cols).into(), cols)?;
        let (mut codes, mut absmax) = (Vec::with_capacity(weights.len()), vec![]);
        for rows in weights.chunks(job.most * cols) {
            let staged = job.window(rows)?;
            codes.extend(staged.codes.iter().map(|q| *q as u8));
            absmax.extend(staged.absmax);
        }
        // The kernel takes what is beyond f16 for the largest f16. Whether anything was, the CPU says.
        if absmax.contains(&f32::from(half::f16::MAX)) {
            return by_cpu();
        }
        let storage = affine::int8::rows((rows, cols), codes.into(), absmax);
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }

    /// [`Runtime::encode_four_bit`] of f32 weights `[rows, cols]` that lie in a buffer of this device, with the usage `STORAGE` and
    /// a size that is a multiple of 16 bytes.
    ///
    /// # Errors
    /// As there, [`Error::Shape`] if the buffer is too small; [`Error::NonFinite`] counts blocks.
    pub fn encode_buffer(
        &self,
        name: impl Into<String>,
        format: &'static Format,
        (rows, cols): (usize, usize),
        weights: &wgpu::Buffer,
        recipe: Recipe,
    ) -> Result<PackedTensor> {
        let name = name.into();
        let table = four_bit_table(&name, format, recipe)?;
        self.context().check()?;
        let count = rows.saturating_mul(cols);
        let wanted = (count as u64).div_ceil(4).saturating_mul(16);
        if weights.size() < wanted {
            let what = format!("buffer of the weights of `{name}`");
            return Err(Error::shape(what, format!("{wanted} bytes"), format!("{} bytes", weights.size())));
        }
        let most = quantize_four_bit::most_weights(&name, self.caps())?;
        let encoder = Encoder::new(self.context(), &name, table, recipe)?;
        let mut encoded = Encoded::default();
        for first in (0..count).step_by(most) {
            encoder.window(weights, first..count.min(first + most), &mut encoded)?;
        }
        let what = format!("tensor `{name}` (counted in blocks of {})", recipe.block);
        check_finite(&what, &encoded.absmax)?;
        encoder.finish((rows, cols), encoded)
    }
}

/// Hands weights to the queue in chunks: see [`pack::CHUNK`].
fn upload_floats(context: &Context, to: &wgpu::Buffer, weights: &[f32]) -> Result<()> {
    let bytes: &[u8] = bytemuck::cast_slice(weights);
    for (i, chunk) in bytes.chunks(pack::CHUNK).enumerate() {
        let doing = || "uploading weights to encode".into();
        let write = || context.queue().write_buffer(to, (i * pack::CHUNK) as u64, chunk);
        context.catch_errors(doing, chunk.len() as u64, write)?;
        context.submit_all(doing, chunk.len() as u64, [])?;
    }
    Ok(())
}

/// The codes and scales that a plan makes of `x`, with `side` bound beside it; in the bits of f32.
fn run(
    context: &Context,
    (name, layout): (&str, &DeviceLayout),
    (x, side): (&wgpu::Buffer, &wgpu::Buffer),
    plan: &[plan::Dispatch],
) -> Result<Vec<f32>> {
    let bytes = plan::bytes_of(plan, Buffer::Y);
    let y = transfer::buffer(context, &format!("codes and scales of `{name}`"), bytes, transfer::OUTPUT)?;
    let (mut encoder, io) = (context.encoder(), Io { x, y: &y, experts: None });
    for dispatch in plan {
        BoundProgram::without_weights(context, layout, &io, side, dispatch)?.encode(&mut encoder);
    }
    let staging = transfer::stage(context, &mut encoder, name, &y, bytes)?;
    transfer::submit_and_read_blocking(context, encoder, &staging, (bytes / 4) as usize)
}

/// What all windows of an INT8 tensor share.
struct Int8Encoder<'a> {
    context: &'a Context,
    name: &'a str,
    layout: DeviceLayout,
    cols: usize,
    /// Rows at a time.
    most: usize,
    /// Stands where a mask of outliers is bound.
    no_outliers: DeviceBuffer,
}

impl<'a> Int8Encoder<'a> {
    fn new(context: &'a Context, name: &'a str, layout: DeviceLayout, cols: usize) -> Result<Self> {
        let no_outliers =
            transfer::filled(context, "no outliers", &vec![0; llm_int8::list_words(cols, context.caps())])?;
        let mut job = Self { context, name, layout, cols, most: 0, no_outliers };
        let by_memory = (QUANTIZE_WEIGHTS / cols).max(1);
        job.most = llm_int8::columns_limit(&job.shape(), context.caps())?.min(by_memory);
        Ok(job)
    }

    /// A weight whose activations are our weights.
    fn shape(&self) -> Weight<'_> {
        Weight { name: self.name, layout: &self.layout, rows: 1, cols: self.cols, experts: 1, shards: &[] }
    }

    fn window(&self, rows: &[f32]) -> Result<Staged> {
        let (context, caps) = (self.context, self.context.caps());
        let what = format!("weights of `{}` to encode", self.name);
        let x = transfer::buffer(context, &what, size_of_val(rows) as u64, transfer::INPUT)?;
        upload_floats(context, &x, rows)?;
        let none = Threshold::new(0.0)?;
        let plan = llm_int8::stage(self.shape(), rows.len() / self.cols, none, Find::Codes, caps)?;
        let words = run(context, (self.name, &self.layout), (&x, &self.no_outliers), &plan)?;
        Ok(Staged::from_words(bytemuck::cast_slice(&words), &[], self.cols, caps))
    }
}

/// What all windows of a tensor share.
struct Encoder<'a> {
    context: &'a Context,
    name: &'a str,
    table: &'static Table,
    recipe: Recipe,
    /// The table as the shader reads it: the pivots, and the codes between them, eight a word.
    words: DeviceBuffer,
}

impl<'a> Encoder<'a> {
    fn new(context: &'a Context, name: &'a str, table: &'static Table, recipe: Recipe) -> Result<Self> {
        let eight = |codes: &[u8; 8]| (0..8).fold(0, |word, i| word | u32::from(codes[i]) << (4 * i));
        let pivots = table.pivots.iter().map(|pivot| pivot.to_bits());
        let words: Vec<u32> = pivots.chain(table.codes.as_chunks().0.iter().map(eight)).collect();
        let words = transfer::filled(context, "pivots", &words)?;
        Ok(Self { context, name, table, recipe, words })
    }

    /// Encodes weights `range` of `x`, which start a block.
    fn window(&self, x: &wgpu::Buffer, range: Range<usize>, encoded: &mut Encoded) -> Result<()> {
        let (context, count) = (self.context, range.len());
        let dispatch = quantize_four_bit::plan(self.name, range, self.recipe.block, context.caps())?;
        let (layout, plan) =
            (DeviceLayout::from(self.table.format.layout(1)), std::slice::from_ref(&dispatch));
        let words = run(context, (self.name, &layout), (x, &self.words), plan)?;
        let (codes, absmax) = words.split_at(dispatch.params.y_stride as usize);
        encoded.codes.extend_from_slice(&bytemuck::cast_slice(codes)[..count.div_ceil(2)]);
        encoded.absmax.extend_from_slice(absmax);
        Ok(())
    }

    fn finish(&self, shape: (usize, usize), encoded: Encoded) -> Result<PackedTensor> {
        let Encoded { codes, absmax } = encoded;
        let storage = four_bit::store(self.table, shape, self.recipe, codes, absmax);
        PackedTensor::encoded(self.name.to_owned(), shape, storage)
    }
}
