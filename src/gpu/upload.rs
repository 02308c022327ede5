//! Brings a tensor to the device: repacked into aligned planes row by row, in chunks, split where a
//! binding ends.

use super::context::Context;
use super::memory::Buffer;
use super::program::Slice;
use super::weights::{Upload, Weights};
use super::{pack, transfer, waiting};
use crate::error::{Error, Result};
use crate::kernel::op::row_scales;
use crate::kernel::program::Tokens;
use crate::kernel::shard::{DeviceLayout, Shard, Stack, shards};
use crate::tensor::PackedTensor;
use std::ops::Range;
use std::sync::Arc;

/// A tensor on its way to the device.
struct Uploading {
    context: Context,
    tensor: PackedTensor,
    experts: usize,
    allow_non_finite: bool,
    layout: DeviceLayout,
    shards: Vec<Shard>,
    /// One a shard.
    buffers: Vec<Buffer>,
    /// Those that are left.
    chunks: std::vec::IntoIter<Chunk>,
    /// Bytes.
    done: u64,
    total: u64,
}

/// Rows that are handed to the queue at a time.
struct Chunk {
    /// Index of the shard that they lie in.
    shard: usize,
    rows: Range<usize>,
}

pub(super) fn upload(context: &Context, tensor: &PackedTensor, options: Upload) -> Result<Weights> {
    let Upload { experts, mut progress, allow_non_finite } = options;
    let mut uploading = Uploading::new(context, tensor, experts, allow_non_finite)?;
    while uploading.one_chunk()? {
        uploading.report(&mut progress);
    }
    uploading.finish()
}

/// [`upload`], a chunk at a time: in the background where there are threads, and in a browser with
/// turns for the page in between. A future that is dropped leaves it at the chunk that is under
/// way.
pub(super) async fn upload_async(
    context: Context,
    tensor: PackedTensor,
    options: Upload<'_>,
) -> Result<Weights> {
    let Upload { experts, mut progress, allow_non_finite } = options;
    let begin = async move { Uploading::new(&context, &tensor, experts, allow_non_finite) };
    let mut uploading = waiting::in_background(begin).await?;
    loop {
        let step = async move {
            let was_one = uploading.one_chunk()?;
            // So that what is copied for the device does not pile up.
            uploading.context.settle().await?;
            Ok((uploading, was_one))
        };
        let (after, was_one) = waiting::in_background(step).await?;
        if !was_one {
            return waiting::in_background(async move {
                let context = after.context.clone();
                let weights = after.finish()?;
                context.settle().await?;
                Ok(weights)
            })
            .await;
        }
        after.report(&mut progress);
        uploading = after;
    }
}

impl Uploading {
    /// Makes room for all of `tensor`.
    fn new(context: &Context, tensor: &PackedTensor, experts: usize, allow_non_finite: bool) -> Result<Self> {
        context.check()?;
        let mut layout = DeviceLayout::from(tensor.layout());
        let rows = tensor.rows();
        if experts == 0 || !rows.is_multiple_of(experts) {
            let name = tensor.name();
            return Err(Error::Argument(format!(
                "the {rows} rows of `{name}` are no stack of {experts} experts"
            )));
        }
        // Experts stay whole.
        let unit = if experts == 1 { 1 } else { rows / experts };
        let stack = Stack { rows, cols: tensor.cols(), unit };
        let shards = shards(tensor.name(), &mut layout, stack, context.caps())?;
        let total = shards.iter().map(Shard::bytes).sum();
        let doing = || format!("uploading `{}`", tensor.name());
        // What does not fit as a whole is not begun.
        drop(context.budget().take(doing, total)?);
        let buffer =
            |shard: &Shard| transfer::create(context, doing, tensor.name(), shard.bytes(), transfer::OUTPUT);
        let buffers = shards.iter().map(buffer).collect::<Result<_>>()?;
        let chunks_of = |(i, shard): (usize, &Shard)| {
            let (step, end) = (pack::step(shard), shard.rows.end);
            let firsts = shard.rows.clone().step_by(step);
            firsts.map(move |first| Chunk { shard: i, rows: first..end.min(first + step) })
        };
        let chunks: Vec<_> = shards.iter().enumerate().flat_map(chunks_of).collect();
        let (context, tensor, chunks) = (context.clone(), tensor.clone(), chunks.into_iter());
        let done = 0;
        Ok(Self { context, tensor, experts, allow_non_finite, layout, shards, buffers, chunks, done, total })
    }

    /// Hands the next chunk to the queue. False if none was left.
    fn one_chunk(&mut self) -> Result<bool> {
        let Some(Chunk { shard, rows }) = self.chunks.next() else { return Ok(false) };
        let to = (&self.layout, &self.shards[shard], &*self.buffers[shard]);
        let shard = to.1;
        self.done += shard.row_bytes() * rows.len().next_multiple_of(shard.tile) as u64;
        if !pack::rows(&self.context, &self.tensor, to, rows, !self.allow_non_finite)? {
            // Counts them.
            self.tensor.check_finite()?;
        }
        Ok(true)
    }

    fn report(&self, progress: &mut Option<&mut (dyn FnMut(u64, u64) + Send)>) {
        if let Some(progress) = progress {
            progress(self.done, self.total);
        }
    }

    fn finish(self) -> Result<Weights> {
        let context = &self.context;
        let weights = Weights {
            owner: context.id(),
            name: self.tensor.name().into(),
            rows: self.tensor.rows(),
            cols: self.tensor.cols(),
            shards: self.shards.into(),
            buffers: self.buffers.into(),
            book: self.layout.book.is_some().then(|| codebook(context, &self.layout)).transpose()?,
            layout: self.layout.into(),
            experts: self.experts,
            row_scales: Arc::default(),
        };
        // Now, as nothing may be submitted while a caller records.
        if context.caps().cooperative.is_some() && weights.cols > 0 {
            let _ = weights.row_scales.set(scales_of_rows(context, &weights)?);
        }
        Ok(weights)
    }
}

/// The codebook of a layout, uploaded at first use.
fn codebook(context: &Context, layout: &DeviceLayout) -> Result<Buffer> {
    let what = || format!("the codebook of {}", layout.format.name);
    context.codebook(layout.book.words(), |words| transfer::filled(context, &what(), words))
}

/// The power of two of each row that makes its weights fit f16, one buffer a shard, computed on the
/// device.
fn scales_of_rows(context: &Context, w: &Weights) -> Result<Vec<Buffer>> {
    let mut encoder = context.encoder();
    let mut buffers = vec![];
    for (i, shard) in w.shards.iter().enumerate() {
        let what = format!("row scales of `{}`", w.name());
        let bytes = shard.rows.len() as u64 * 4;
        let y = transfer::buffer(context, &what, bytes, wgpu::BufferUsages::STORAGE)?;
        let mut program = context.program(Tokens::Exactly(1));
        let scales = program.slot("row scales", 1);
        program.with_weight(w, |plan, w| row_scales::add(plan, w, i, scales))?;
        let bound = context.bind(&program, &[(scales, Slice::from(&y))])?;
        bound.encode(&mut encoder, 1)?;
        bound.hold(&encoder);
        buffers.push(y);
    }
    context.submit(encoder)?;
    Ok(buffers)
}
