//! Numbers as they are: floats and integers without scales.

pub(crate) mod bf16;
pub(crate) mod f16;
pub(crate) mod f32;
pub(crate) mod f64;
pub(crate) mod i16;
pub(crate) mod i32;
pub(crate) mod i64;
pub(crate) mod i8;

use crate::format::{Blocks, Codebook, Plane};
use bytemuck::Pod;

/// A number that is a weight. Its bytes, the lowest first, are a block, and one plane holds those
/// of a row in order.
pub(in crate::format) trait Number {
    /// `[u8; N]`
    type Bytes: Pod;

    const PLANES: &'static [Plane] = &[Plane::new("w", 8 * size_of::<Self::Bytes>() * 256)];

    /// The weight, the reference for the shader.
    fn weight(bytes: Self::Bytes) -> f32;

    fn is_finite(bytes: Self::Bytes) -> bool {
        Self::weight(bytes).is_finite()
    }
}

/// A number that can be made of a weight.
pub(in crate::format) trait EncodeNumber: Number {
    /// Rounds to nearest even.
    fn encode(w: f32) -> Self::Bytes;
}

impl Blocks {
    /// A format of numbers `N`, without an encoder.
    const fn of_numbers<N: Number>() -> Self {
        Self {
            weights: 1,
            bytes: size_of::<N::Bytes>(),
            decode: decode::<N>,
            encode: None,
            is_finite: is_finite::<N>,
            planes: N::PLANES,
            pack,
            unpack,
            book: Codebook::None,
        }
    }

    /// A format of numbers `N`, with its encoder.
    const fn of_encoded_numbers<N: EncodeNumber>() -> Self {
        let mut blocks = Self::of_numbers::<N>();
        blocks.encode = Some(encode::<N>);
        blocks
    }
}

fn numbers<N: Number>(row: &[u8]) -> &[N::Bytes] {
    bytemuck::cast_slice(row)
}

fn decode<N: Number>(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(numbers::<N>(row)).for_each(|(w, bytes)| *w = N::weight(*bytes));
}

fn encode<N: EncodeNumber>(weights: &[f32], row: &mut [u8]) {
    let row: &mut [N::Bytes] = bytemuck::cast_slice_mut(row);
    row.iter_mut().zip(weights).for_each(|(to, w)| *to = N::encode(*w));
}

fn is_finite<N: Number>(row: &[u8]) -> bool {
    numbers::<N>(row).iter().all(|bytes| N::is_finite(*bytes))
}

/// The bytes of a row in order.
fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    bytemuck::cast_slice_mut(planes[0])[..row.len()].copy_from_slice(row);
}

/// Inverse of [`pack`].
fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    row.copy_from_slice(&bytemuck::cast_slice(planes[0])[..row.len()]);
}
