//! Brings a tensor to the device: repacked into aligned planes row by row, in chunks, split where a
//! binding ends.

use super::context::Context;
use super::memory::Buffer;
use super::program::Slice;
use super::weights::{Upload, Weights};
use super::{pack, transfer};
use crate::error::{Error, Result};
use crate::kernel::op::row_scales;
use crate::kernel::program::Tokens;
use crate::kernel::shard::{DeviceLayout, Shard, Stack, shards};
use crate::tensor::PackedTensor;
use std::sync::Arc;

pub(super) fn upload(context: &Context, tensor: &PackedTensor, mut options: Upload) -> Result<Weights> {
    let mut layout = DeviceLayout::from(tensor.layout());
    let (shape, experts) = ((tensor.rows(), tensor.cols()), options.experts);
    if experts == 0 || !shape.0.is_multiple_of(experts) {
        let name = tensor.name();
        return Err(Error::Argument(format!(
            "the {} rows of `{name}` are no stack of {experts} experts",
            shape.0
        )));
    }
    // Experts stay whole.
    let unit = if experts == 1 { 1 } else { shape.0 / experts };
    let stack = Stack { rows: shape.0, cols: shape.1, unit };
    let shards = shards(tensor.name(), &mut layout, stack, context.caps())?;
    let total = shards.iter().map(Shard::bytes).sum();
    // What does not fit as a whole is not begun.
    drop(context.budget().take(|| format!("uploading `{}`", tensor.name()), total)?);
    let mut done = 0;
    let mut buffers = vec![];
    for shard in &shards {
        let doing = || format!("uploading `{}`", tensor.name());
        let buffer = transfer::create(context, doing, tensor.name(), shard.bytes(), transfer::OUTPUT)?;
        let step = pack::step(shard);
        for first in shard.rows.clone().step_by(step) {
            let rows = first..shard.rows.end.min(first + step);
            done += shard.row_bytes() * rows.len().next_multiple_of(shard.tile) as u64;
            let to = (&layout, shard, &*buffer);
            if !pack::rows(context, tensor, to, rows, !options.allow_non_finite)? {
                // Counts them.
                tensor.check_finite()?;
            }
            if let Some(progress) = &mut options.progress {
                progress(done, total);
            }
        }
        buffers.push(buffer);
    }
    let weights = Weights {
        owner: context.id(),
        name: tensor.name().into(),
        rows: tensor.rows(),
        cols: tensor.cols(),
        shards: shards.into(),
        buffers: buffers.into(),
        book: layout.book.is_some().then(|| codebook(context, &layout)).transpose()?,
        layout: layout.into(),
        experts,
        row_scales: Arc::default(),
    };
    // Now, as nothing may be submitted while a caller records.
    if context.caps().cooperative.is_some() && weights.cols > 0 {
        let _ = weights.row_scales.set(scales_of_rows(context, &weights)?);
    }
    Ok(weights)
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
