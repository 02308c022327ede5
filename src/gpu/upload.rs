//! Bytes of a tensor on their way to the device: each is read once, repacked in a cache, and written once to where the
//! queue takes it from, all threads at it, while the device copies the chunk before.

use super::runtime::Runtime;
use crate::error::{Error, Result};
use crate::kernel::plan::{MAX_PLANES, Shard};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::ops::Range;
use wgpu::WriteOnly;

/// Bytes that are handed to the queue at a time: measured 10 times faster than one large write.
pub(super) const CHUNK: usize = 8 << 20;
/// Bytes that a thread repacks before it writes them out: they stay in its cache.
const BLOCK: usize = 64 << 10;

/// Rows of one thread, a window into what the queue takes for each plane.
struct Block<'a> {
    rows: Range<usize>,
    planes: [Option<WriteOnly<'a, [u8]>>; MAX_PLANES],
}

// SAFETY: each window is of bytes that no other has, as with `&mut [u8]`; wgpu says so for sized types only.
unsafe impl Send for Block<'_> {}

/// Hands rows `rows` of `tensor`, which lie in `shard`, to the queue. False if scales were to be checked and one is not
/// finite.
pub(super) fn rows(
    runtime: &Runtime,
    tensor: &PackedTensor,
    (shard, buffer): (&Shard, &wgpu::Buffer),
    rows: Range<usize>,
    check: bool,
) -> Result<bool> {
    let doing = || format!("uploading `{}`", tensor.name());
    let bytes = (row_words(shard) * rows.len() * 4) as u64;
    let views = runtime.guard(doing, bytes, || open(runtime, (shard, buffer), &rows))?;
    let Some(mut views) = views else {
        // A lost device refuses without a word: hear of it.
        runtime.wait()?;
        let message = format!("the queue took none of {bytes} bytes");
        return if bytes == 0 { Ok(true) } else { Err(Error::Gpu { doing: doing(), message }) };
    };
    let good = blocks(shard, &mut views, rows)
        .into_par_iter()
        .map_init(|| scratch(shard), |scratch, block| repack(tensor, shard, block, scratch, check))
        .reduce(|| true, |a, b| a & b);
    // Dropped, the views are queued, and the empty submission starts them.
    runtime.guard(doing, bytes, || {
        drop(views);
        runtime.queue().submit([]);
    })?;
    Ok(good)
}

/// Words of one row in all planes.
pub(super) fn row_words(shard: &Shard) -> usize {
    shard.plane_stride.iter().map(|words| *words as usize).sum()
}

/// Where the queue takes `rows` from, one view a plane; none if there is nothing to write.
fn open(
    runtime: &Runtime,
    (shard, buffer): (&Shard, &wgpu::Buffer),
    rows: &Range<usize>,
) -> Option<Vec<wgpu::QueueWriteBufferView>> {
    let planes = shard.plane_stride.iter().zip(shard.plane_offset).filter(|(stride, _)| **stride > 0);
    let view = |(stride, offset): (&u32, u32)| {
        let words = |rows: usize| rows as u64 * u64::from(*stride);
        let at = u64::from(offset) + words(rows.start - shard.rows.start);
        let size = wgpu::BufferSize::new(4 * words(rows.len()))?;
        runtime.queue().write_buffer_with(buffer, 4 * at, size)
    };
    planes.map(view).collect()
}

/// Cuts the views into the rows of one thread at a time.
fn blocks<'a>(
    shard: &Shard,
    views: &'a mut [wgpu::QueueWriteBufferView],
    rows: Range<usize>,
) -> Vec<Block<'a>> {
    let step = block_rows(shard);
    let mut left: Vec<_> = views.iter_mut().map(|view| view.slice(..)).collect();
    let block = |first: usize| {
        let rows = first..rows.end.min(first + step);
        let mut planes = [const { None }; MAX_PLANES];
        for ((plane, left), stride) in planes.iter_mut().zip(&mut left).zip(shard.plane_stride) {
            *plane = left.split_off(..4 * stride as usize * rows.len());
        }
        Block { rows, planes }
    };
    rows.clone().step_by(step).map(block).collect()
}

fn block_rows(shard: &Shard) -> usize {
    (BLOCK / 4 / row_words(shard).max(1)).max(1)
}

/// Room for the planes of one block.
fn scratch(shard: &Shard) -> [Vec<u32>; MAX_PLANES] {
    shard.plane_stride.map(|stride| vec![0; stride as usize * block_rows(shard)])
}

/// Repacks one block. It is not done where it is written: formats read back what they pack, and staging memory may be
/// slow to read.
fn repack(
    tensor: &PackedTensor,
    shard: &Shard,
    block: Block,
    scratch: &mut [Vec<u32>; MAX_PLANES],
    check: bool,
) -> bool {
    if check && !tensor.rows_finite(block.rows.clone()) {
        return false;
    }
    let strides = shard.plane_stride.map(|stride| stride as usize);
    for (i, row) in block.rows.clone().enumerate() {
        let mut planes = scratch.each_mut().map(|plane| &mut plane[..]);
        for (plane, stride) in planes.iter_mut().zip(strides) {
            *plane = &mut std::mem::take(plane)[i * stride..(i + 1) * stride];
        }
        tensor.pack_row(row, &mut planes);
    }
    for ((plane, words), stride) in block.planes.into_iter().zip(scratch).zip(strides) {
        if let Some(mut plane) = plane {
            plane.copy_from_slice(bytemuck::cast_slice(&words[..stride * block.rows.len()]));
        }
    }
    true
}
