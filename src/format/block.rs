//! One block of a format, and the loops over the blocks of a row, written once for all of them.

use crate::error::{Error, Result, shown};
use crate::format::recipe::{Encoder, Job, Recipe};
use crate::format::storage::BlockRows;
use crate::format::{Blocks, Codebook, MAX_PLANES, Plane, Storage};
use bytemuck::{NoUninit, Pod};
use rayon::prelude::*;
use std::sync::Arc;

/// A block as it lies in the file: a `#[repr(C)]` struct of bytes. A format says what one block is;
/// [`Blocks::of`] makes the loops over a row of it.
pub(crate) trait Block: Pod {
    /// `[f32; N]`, the weights of a block.
    type Weights: Pod;

    /// The aligned planes on the device, in the order of the shader's plane numbers.
    const PLANES: &'static [Plane];

    /// The codebook that the shader looks codes up in.
    const CODEBOOK: Codebook = Codebook::None;

    /// Decodes the block, the reference for the shader.
    fn decode(&self, out: &mut Self::Weights);

    /// True if every scale is finite, so that every weight is.
    fn is_finite(&self) -> bool;

    /// Puts every field into its plane. Lossless.
    fn pack(&self, to: &mut Packer);

    /// Inverse of [`Block::pack`].
    fn unpack(from: &Unpacker) -> Self;
}

/// A block that can be made of weights.
pub(crate) trait EncodeBlock: Block {
    /// Encodes as ggml's plain quantizer does, byte for byte.
    fn encode(w: &Self::Weights) -> Self;
}

/// The planes of a row, where the fields of one of its blocks go.
pub(crate) struct Packer<'a> {
    /// The bytes of each plane. An array keeps them in registers: uploads wait for packing.
    planes: [&'a mut [u8]; MAX_PLANES],
    block: usize,
}

impl<'a> Packer<'a> {
    fn new(planes: &'a mut [&mut [u32]]) -> Self {
        let mut planes = planes.iter_mut().map(|plane| bytemuck::cast_slice_mut(plane));
        Self { planes: std::array::from_fn(|_| planes.next().unwrap_or_default()), block: 0 }
    }

    /// Writes the block's part of a plane: bytes, or words whose lowest byte comes first.
    pub fn put<T: NoUninit>(&mut self, plane: usize, part: T) {
        let first = self.block * size_of::<T>();
        self.planes[plane][first..first + size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&part));
    }
}

/// The planes of a row, where the fields of one of its blocks are.
pub(crate) struct Unpacker<'a> {
    planes: &'a [&'a [u32]],
    block: usize,
}

impl Unpacker<'_> {
    /// Reads what [`Packer::put`] has written.
    pub fn get<T: Pod>(&self, plane: usize) -> T {
        let bytes: &[u8] = bytemuck::cast_slice(self.planes[plane]);
        bytemuck::pod_read_unaligned(&bytes[self.block * size_of::<T>()..][..size_of::<T>()])
    }
}

impl Blocks {
    /// A format whose blocks are `B`, without an encoder.
    pub(in crate::format) const fn of<B: Block>() -> Self {
        Self {
            weights: weights::<B>(),
            bytes: size_of::<B>(),
            decode: decode::<B>,
            encode: None,
            is_finite: is_finite::<B>,
            planes: B::PLANES,
            pack: pack::<B>,
            unpack: unpack::<B>,
            book: B::CODEBOOK,
        }
    }

    /// A format whose blocks are `B`, with its encoder.
    pub(in crate::format) const fn of_encoded<B: EncodeBlock>() -> Self {
        let mut blocks = Self::of::<B>();
        blocks.encode = Some(encode::<B>);
        blocks
    }
}

impl Encoder for Blocks {
    fn fault(&self, recipe: &Recipe) -> Option<String> {
        match self.encode {
            Some(_) => recipe.foreign_choice(),
            None => Some(format!("{} cannot be written yet", recipe.format().name)),
        }
    }

    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        let (format, [rows, cols]) = (job.recipe.format(), job.shape);
        let row_bytes = format.row_bytes_of(job.name, cols)?;
        let mut data = vec![0u8; rows * row_bytes];
        if let (Some(encode), false) = (self.encode, data.is_empty()) {
            data.par_chunks_mut(row_bytes)
                .zip(job.weights.par_chunks(cols))
                .for_each(|(to, w)| encode(w, to));
        }
        self.check_encoded(job, &data)?;
        Ok(Arc::new(BlockRows { format, shape: job.shape, row_bytes, data: data.into() }))
    }
}

impl Blocks {
    /// Refuses blocks that finite weights have made infinite: F16, and scales in it, end at 65504.
    /// The index is that of a weight.
    fn check_encoded(&self, job: &Job, data: &[u8]) -> Result<()> {
        // Large pieces first: nearly always that is all.
        if data.par_chunks(self.bytes << 12).all(self.is_finite) {
            return Ok(());
        }
        let bad = |block: &&[u8]| !(self.is_finite)(block);
        let count = data.par_chunks(self.bytes).filter(bad).count() as u64;
        let first = data.chunks(self.bytes).position(|block| bad(&block)).unwrap_or_default();
        let what = format!("tensor `{}` in {}", shown(job.name), job.recipe.format().name);
        Err(Error::NonFinite { what, count, first: (first * self.weights) as u64 })
    }
}

const fn weights<B: Block>() -> usize {
    size_of::<B::Weights>() / size_of::<f32>()
}

fn blocks<B: Block>(row: &[u8]) -> &[B] {
    const { assert!(align_of::<B>() == 1) };
    bytemuck::cast_slice(row)
}

fn decode<B: Block>(row: &[u8], out: &mut [f32]) {
    let out: &mut [B::Weights] = bytemuck::cast_slice_mut(out);
    blocks::<B>(row).iter().zip(out).for_each(|(block, out)| block.decode(out));
}

fn encode<B: EncodeBlock>(weights: &[f32], row: &mut [u8]) {
    let (weights, row): (&[B::Weights], &mut [B]) =
        (bytemuck::cast_slice(weights), bytemuck::cast_slice_mut(row));
    weights.iter().zip(row).for_each(|(w, block)| *block = B::encode(w));
}

fn is_finite<B: Block>(row: &[u8]) -> bool {
    blocks::<B>(row).iter().all(B::is_finite)
}

fn pack<B: Block>(row: &[u8], planes: &mut [&mut [u32]]) {
    const { assert!(B::PLANES.len() <= MAX_PLANES) };
    let mut packer = Packer::new(planes);
    for block in blocks::<B>(row) {
        block.pack(&mut packer);
        packer.block += 1;
    }
}

fn unpack<B: Block>(planes: &[&[u32]], row: &mut [u8]) {
    for (i, block) in bytemuck::cast_slice_mut::<_, B>(row).iter_mut().enumerate() {
        *block = B::unpack(&Unpacker { planes, block: i });
    }
}
