//! Bytes of a tensor on their way to the device: each is read once, repacked in a cache, and
//! written once to where the queue takes it from, all threads at it, while the device copies the
//! chunk before.

use super::context::Context;
use crate::error::{Error, Result};
use crate::kernel::shard::{DeviceLayout, MAX_PLANES, Shard};
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

// SAFETY: each window is of bytes that no other has, as with `&mut [u8]`; wgpu says so for sized
// types only.
unsafe impl Send for Block<'_> {}

/// Hands rows `rows` of `tensor`, which lie in `shard`, to the queue. False if scales were to be
/// checked and one is not finite.
pub(super) fn rows(
    context: &Context,
    tensor: &PackedTensor,
    (layout, shard, buffer): (&DeviceLayout, &Shard, &wgpu::Buffer),
    rows: Range<usize>,
    check: bool,
) -> Result<bool> {
    let doing = || format!("uploading `{}`", tensor.name());
    let bytes = shard.row_bytes() * rows.len() as u64;
    let views = context.catch_errors(doing, bytes, || open(context, (shard, buffer), &rows))?;
    let Some(mut views) = views else {
        // A lost device refuses without a word: hear of it.
        context.hear_of_loss()?;
        let message = format!("the queue took none of {bytes} bytes");
        return if bytes == 0 { Ok(true) } else { Err(Error::Gpu { doing: doing(), message }) };
    };
    let good = blocks(shard, &mut views, rows)
        .into_par_iter()
        .map_init(
            || Scratch::new(shard),
            |scratch, block| scratch.repack(tensor, (layout, shard), block, check),
        )
        .reduce(|| true, |a, b| a & b);
    // Dropped, the views are queued, and the empty submission starts them.
    context.catch_errors(doing, bytes, || drop(views))?;
    context.submit_all(doing, bytes, [])?;
    Ok(good)
}

/// Rows that are handed to the queue at a time.
pub(super) fn step(shard: &Shard) -> usize {
    rows_in(CHUNK, shard)
}

/// Rows in about so many bytes, whole tiles of them.
fn rows_in(bytes: usize, shard: &Shard) -> usize {
    let rows = bytes / (shard.row_bytes() as usize).max(1);
    (rows - rows % shard.tile).max(shard.tile)
}

/// Where the queue takes `rows` from, one view a plane; none if there is nothing to write.
fn open(
    context: &Context,
    (shard, buffer): (&Shard, &wgpu::Buffer),
    rows: &Range<usize>,
) -> Option<Vec<wgpu::QueueWriteBufferView>> {
    let planes = shard.plane_stride.iter().zip(shard.plane_offset).filter(|(stride, _)| **stride > 0);
    let view = |(stride, offset): (&u32, u32)| {
        let words = |rows: usize| rows as u64 * u64::from(*stride);
        let at = u64::from(offset) + words(rows.start - shard.rows.start);
        let size = wgpu::BufferSize::new(4 * words(rows.len().next_multiple_of(shard.tile)))?;
        context.queue().write_buffer_with(buffer, 4 * at, size)
    };
    let views: Option<Vec<_>> = planes.map(view).collect();
    // Rows without columns may be billions: none of them is looked at.
    views.filter(|views| !views.is_empty())
}

/// Cuts the views into the rows of one thread at a time.
fn blocks<'a>(
    shard: &Shard,
    views: &'a mut [wgpu::QueueWriteBufferView],
    rows: Range<usize>,
) -> Vec<Block<'a>> {
    let step = rows_in(BLOCK, shard);
    let mut left: Vec<_> = views.iter_mut().map(|view| view.slice(..)).collect();
    let block = |first: usize| {
        let rows = first..rows.end.min(first + step);
        let mut planes = [const { None }; MAX_PLANES];
        for ((plane, left), stride) in planes.iter_mut().zip(&mut left).zip(shard.plane_stride) {
            *plane = left.split_off(..4 * stride as usize * rows.len().next_multiple_of(shard.tile));
        }
        Block { rows, planes }
    };
    rows.clone().step_by(step).map(block).collect()
}

/// A thread's room for one block.
struct Scratch {
    /// The planes of its rows, one row after the other.
    rows: [Vec<u32>; MAX_PLANES],
    /// A tile of a plane whose rows lie side by side.
    tile: Vec<u32>,
}

impl Scratch {
    fn new(shard: &Shard) -> Self {
        let rows = rows_in(BLOCK, shard);
        Self { rows: shard.plane_stride.map(|stride| vec![0; stride as usize * rows]), tile: vec![] }
    }

    /// Repacks one block. It is not done where it is written: formats read back what they pack, and
    /// staging memory may be slow to read.
    fn repack(
        &mut self,
        tensor: &PackedTensor,
        (layout, shard): (&DeviceLayout, &Shard),
        block: Block,
        check: bool,
    ) -> bool {
        if check && !tensor.rows_finite(block.rows.clone()) {
            return false;
        }
        let strides = shard.plane_stride.map(|stride| stride as usize);
        for (i, row) in block.rows.clone().enumerate() {
            let mut planes = self.rows.each_mut().map(|plane| &mut plane[..]);
            for (plane, stride) in planes.iter_mut().zip(strides) {
                *plane = &mut std::mem::take(plane)[i * stride..(i + 1) * stride];
            }
            tensor.pack_row(row, &mut planes);
        }
        let rows = block.rows.len().next_multiple_of(shard.tile);
        // What fills the last tile is whatever was there: no row is read that the tensor does not
        // have.
        let interleaved = layout.interleaved();
        for (i, (plane, stride)) in block.planes.into_iter().zip(strides).enumerate() {
            let Some(mut plane) = plane else { continue };
            let words = &self.rows[i][..stride * rows];
            if interleaved >> i & 1 == 0 {
                plane.copy_from_slice(bytemuck::cast_slice(words));
                continue;
            }
            for tile in words.chunks(stride * shard.tile) {
                put_side_by_side(tile, stride, &mut self.tile);
                if let Some(mut plane) = plane.split_off(..4 * tile.len()) {
                    plane.copy_from_slice(bytemuck::cast_slice(&self.tile));
                }
            }
        }
        true
    }
}

/// A tile of a plane, rows one after the other, as `plane_16_bytes` of shaders/lib/planes.wgsl
/// finds it.
fn put_side_by_side(rows: &[u32], stride: usize, tile: &mut Vec<u32>) {
    tile.clear();
    let lanes = rows.len() / stride / 4;
    let row = |i: usize| rows[i * stride..(i + 1) * stride].as_chunks::<4>().0;
    for lane in 0..lanes {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| row(lane + i * lanes));
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            [a, b, c, d].into_iter().for_each(|bytes| tile.extend_from_slice(bytes));
        }
    }
}
