//! Encoding on the device.

use super::context::Context;
use super::memory::Buffer as DeviceBuffer;
use super::program::{Program, Slice};
use super::runtime::Runtime;
use super::{pack, transfer};
use crate::error::{Error, Result, shown};
use crate::format::four_bit::{self, Table};
use crate::format::recipe::FourBitConfig;
use crate::format::{self, Recipe, affine, bnb4};
use crate::kernel::Threshold;
use crate::kernel::limits::QUANTIZE_WEIGHTS;
use crate::kernel::llm_int8::{self, Find, Staged};
use crate::kernel::op::quantize_four_bit;
use crate::kernel::program::{Element, Tokens, View};
use crate::kernel::shard::{DeviceLayout, Weight};
use crate::tensor::{PackedTensor, check_count, check_finite};
use std::ops::Range;
use std::sync::Arc;

/// Codes and scales as they come back, window after window.
#[derive(Default)]
struct Encoded {
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

/// Weights to encode, f32 `[rows, cols]`, and where they lie.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum EncodeInput<'a> {
    /// In memory of the host.
    Host(&'a [f32]),
    /// In a buffer of the runtime's own device, with the usage `STORAGE` and a size that is a
    /// multiple of 16 bytes: NF4 and FP4 alone are made of it.
    Device(&'a wgpu::Buffer),
}

impl<'a> From<&'a [f32]> for EncodeInput<'a> {
    fn from(weights: &'a [f32]) -> Self {
        Self::Host(weights)
    }
}

impl<'a> From<&'a Vec<f32>> for EncodeInput<'a> {
    fn from(weights: &'a Vec<f32>) -> Self {
        Self::Host(weights)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for EncodeInput<'a> {
    fn from(weights: &'a [f32; N]) -> Self {
        Self::Host(weights)
    }
}

impl<'a> From<&'a wgpu::Buffer> for EncodeInput<'a> {
    fn from(weights: &'a wgpu::Buffer) -> Self {
        Self::Device(weights)
    }
}

/// [`Runtime::encode_async`].
pub(super) async fn encode(
    gpu: &Runtime,
    name: String,
    shape: [usize; 2],
    weights: EncodeInput<'_>,
    recipe: &Recipe,
) -> Result<PackedTensor> {
    recipe.check(&name)?;
    let table = bnb4::table(recipe.format()).map(|table| (table, four_bit::config(recipe)));
    match (weights, table) {
        (EncodeInput::Host(weights), Some((table, config))) => {
            check_count(&name, shape, weights.len())?;
            gpu.context().check()?;
            let encoder = Encoder::new(gpu.context(), &name, table, config)?;
            gpu.encode_four_bit(&encoder, shape, weights).await
        }
        (EncodeInput::Host(weights), None) if *recipe == Recipe::new(format::INT8) => {
            gpu.encode_int8(&name, shape, weights).await
        }
        (EncodeInput::Host(weights), None) => PackedTensor::encode(name, shape, weights, recipe),
        (EncodeInput::Device(weights), Some((table, config))) => {
            gpu.context().check()?;
            let encoder = Encoder::new(gpu.context(), &name, table, config)?;
            gpu.encode_buffer(&encoder, shape, weights).await
        }
        (EncodeInput::Device(_), None) => Err(Error::Argument(format!(
            "tensor `{}`: only NF4 and FP4 are encoded from a buffer of the device, not {}",
            shown(&name),
            recipe.format().name
        ))),
    }
}

impl Runtime {
    async fn encode_four_bit(
        &self,
        encoder: &Encoder<'_>,
        shape: [usize; 2],
        weights: &[f32],
    ) -> Result<PackedTensor> {
        let name = encoder.name;
        let most = quantize_four_bit::most_weights(name, self.caps())?;
        // Read four weights at a time.
        let bytes = weights.len().min(most).next_multiple_of(4) as u64 * 4;
        let what = format!("weights of `{name}` to encode");
        let x = transfer::buffer(self.context(), &what, bytes, transfer::INPUT)?;
        let mut encoded = Encoded::default();
        for weights in weights.chunks(most) {
            upload_floats(self.context(), &x, weights)?;
            encoder.window(&x, 0..weights.len(), &mut encoded).await?;
        }
        // One scale that is not finite tells of its block.
        if !encoded.absmax.iter().all(|scale| scale.is_finite()) {
            check_finite(&format!("tensor `{name}`"), weights)?;
        }
        encoder.finish(shape, encoded)
    }

    /// LLM.int8 makes of a row of weights what it makes of a column of activations: their kernel,
    /// without a threshold.
    async fn encode_int8(&self, name: &str, shape: [usize; 2], weights: &[f32]) -> Result<PackedTensor> {
        let [rows, cols] = shape;
        let by_cpu = || PackedTensor::encode(name, shape, weights, &Recipe::new(format::INT8));
        if weights.is_empty() || rows.checked_mul(cols) != Some(weights.len()) {
            return by_cpu();
        }
        check_finite(&format!("tensor `{name}`"), weights)?;
        self.context().check()?;
        let job = Int8Encoder::new(self.context(), name, format::INT8.layout(cols).into(), cols)?;
        let (mut codes, mut absmax) = (Vec::with_capacity(weights.len()), vec![]);
        for rows in weights.chunks(job.most * cols) {
            let staged = job.window(rows).await?;
            codes.extend(staged.codes.iter().map(|q| *q as u8));
            absmax.extend(staged.absmax);
        }
        // The kernel takes what is beyond f16 for the largest f16. Whether anything was, the CPU
        // says.
        if absmax.contains(&f32::from(half::f16::MAX)) {
            return by_cpu();
        }
        let storage = affine::int8::rows(shape, codes.into(), absmax);
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }

    async fn encode_buffer(
        &self,
        encoder: &Encoder<'_>,
        shape: [usize; 2],
        weights: &wgpu::Buffer,
    ) -> Result<PackedTensor> {
        let name = encoder.name;
        let count = shape[0].saturating_mul(shape[1]);
        let wanted = (count as u64).div_ceil(4).saturating_mul(16);
        if weights.size() < wanted {
            let what = format!("buffer of the weights of `{name}`");
            return Err(Error::shape(what, format!("{wanted} bytes"), format!("{} bytes", weights.size())));
        }
        let most = quantize_four_bit::most_weights(name, self.caps())?;
        let mut encoded = Encoded::default();
        for first in (0..count).step_by(most) {
            encoder.window(weights, first..count.min(first + most), &mut encoded).await?;
        }
        let what = format!("tensor `{name}` (counted in blocks of {})", encoder.config.block);
        check_finite(&what, &encoded.absmax)?;
        encoder.finish(shape, encoded)
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

/// The codes and scales that a program makes of its `inputs` in `words` words of y; in the bits of
/// f32.
async fn run(
    context: &Context,
    name: &str,
    program: &Program,
    inputs: &[(View, Slice)],
    y: View,
    words: usize,
) -> Result<Vec<f32>> {
    let (what, bytes) = (format!("codes and scales of `{name}`"), words as u64 * 4);
    let results = transfer::buffer(context, &what, bytes, transfer::OUTPUT)?;
    let slots = [inputs, &[(y, Slice::from(&results))]].concat();
    let bound = context.bind(program, &slots)?;
    let mut encoder = context.encoder();
    bound.encode(&mut encoder, program.tokens().most())?;
    bound.hold(&encoder);
    let staging = transfer::stage(context, &mut encoder, name, &results, bytes)?;
    transfer::submit_and_read(context, encoder, &staging, words).await
}

/// What all windows of an INT8 tensor share.
struct Int8Encoder<'a> {
    context: &'a Context,
    name: &'a str,
    layout: DeviceLayout,
    cols: usize,
    /// Rows at a time.
    most: usize,
}

impl<'a> Int8Encoder<'a> {
    fn new(context: &'a Context, name: &'a str, layout: DeviceLayout, cols: usize) -> Result<Self> {
        let mut job = Self { context, name, layout, cols, most: 0 };
        let by_memory = (QUANTIZE_WEIGHTS / cols).max(1);
        job.most = llm_int8::columns_limit(&job.shape(), cols, context.caps())?.min(by_memory);
        Ok(job)
    }

    /// A weight whose activations are our weights.
    fn shape(&self) -> Weight<'_> {
        Weight {
            index: 0,
            name: self.name,
            layout: &self.layout,
            rows: 1,
            cols: self.cols,
            experts: 1,
            shards: &[],
        }
    }

    async fn window(&self, rows: &[f32]) -> Result<Staged> {
        let (context, caps) = (self.context, self.context.caps());
        let what = format!("weights of `{}` to encode", self.name);
        let x = transfer::buffer(context, &what, size_of_val(rows) as u64, transfer::INPUT)?;
        upload_floats(context, &x, rows)?;
        let (none, n) = (Threshold::new(0.0)?, rows.len() / self.cols);
        let mut program = context.program(Tokens::Exactly(n));
        let (input, y) = (program.slot("weights", self.cols), program.slot("codes", 1));
        llm_int8::stage(program.plan_mut(), self.shape(), input, y, none, Find::Codes)?;
        let count = llm_int8::stage_words(Find::Codes, n, self.cols, caps);
        let words = run(context, self.name, &program, &[(input, Slice::from(&x))], y, count).await?;
        Ok(Staged::from_words(bytemuck::cast_slice(&words), &[], self.cols, caps))
    }
}

/// What all windows of a tensor share.
struct Encoder<'a> {
    context: &'a Context,
    name: &'a str,
    table: &'static Table,
    config: FourBitConfig,
    /// The table as the shader reads it: the pivots, and the codes between them, eight a word.
    words: DeviceBuffer,
}

impl<'a> Encoder<'a> {
    fn new(
        context: &'a Context,
        name: &'a str,
        table: &'static Table,
        config: FourBitConfig,
    ) -> Result<Self> {
        let eight = |codes: &[u8; 8]| (0..8).fold(0, |word, i| word | u32::from(codes[i]) << (4 * i));
        let pivots = table.pivots.iter().map(|pivot| pivot.to_bits());
        let words: Vec<u32> = pivots.chain(table.codes.as_chunks().0.iter().map(eight)).collect();
        let words = transfer::filled(context, "pivots", &words)?;
        Ok(Self { context, name, table, config, words })
    }

    /// Encodes weights `range` of `x`, which start a block.
    async fn window(&self, x: &wgpu::Buffer, range: Range<usize>, encoded: &mut Encoded) -> Result<()> {
        let (context, count, block) = (self.context, range.len(), self.config.block);
        let mut program = context.program(Tokens::Exactly(1));
        let [input, y, pivots] =
            ["weights", "codes", "pivots"].map(|name| program.slot_of(name, 1, Element::U32));
        let codes = quantize_four_bit::add(program.plan_mut(), range, block, input, y, pivots)?;
        let inputs = [(input, Slice::from(x)), (pivots, Slice::from(&self.words))];
        let words = run(context, self.name, &program, &inputs, y, codes + count.div_ceil(block)).await?;
        let (codes, absmax) = words.split_at(codes);
        encoded.codes.extend_from_slice(&bytemuck::cast_slice(codes)[..count.div_ceil(2)]);
        encoded.absmax.extend_from_slice(absmax);
        Ok(())
    }

    fn finish(&self, shape: [usize; 2], encoded: Encoded) -> Result<PackedTensor> {
        let Encoded { codes, absmax } = encoded;
        let storage = four_bit::store(self.table, shape, self.config, codes, absmax);
        PackedTensor::encoded(self.name.to_owned(), shape, storage)
    }
}
