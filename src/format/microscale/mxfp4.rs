//! MXFP4: 32 weights in 17 bytes: e (an exponent, E8M0), qs[16] (E2M1; low nibbles = weights 0..15,
//! high = 16..31).
//!
//! `w[i] = 2^(e - 128) * book[q[i]]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::storage::Part;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Layout, Plane, Storage, bits};
use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use std::ops::Range;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Mxfp4 {
    e: u8,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Mxfp4>() == 17);

pub static FORMAT: Format = Format {
    name: "MXFP4",
    stem: "mxfp4",
    gguf_type: Some(39),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Mxfp4>()),
    shader: include_str!("../../../shaders/decode/mxfp4.wgsl"),
};

/// Twice the sixteen values of E2M1, so that they are whole; NVFP4's too.
pub const VALUES: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// The same with the second zero negative, as everyone but ggml has it.
pub const SIGNED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, -0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// The largest exponent with which 12 is finite.
const LARGEST: u8 = 252;

/// 2^(e - 128); subnormal for 0 and 1.
fn scale(e: u8) -> f32 {
    match e {
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits((u32::from(e) - 1) << 23),
    }
}

impl Block for Mxfp4 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 4 * 256), Plane::new("e", 8 * 8)];

    const CODEBOOK: Codebook = Codebook::Sixteen(VALUES);

    fn decode(&self, out: &mut [f32; 32]) {
        let d = scale(self.e);
        *out = bits::split_halves(&self.qs).map(|q| d * VALUES[usize::from(q)]);
    }

    fn is_finite(&self) -> bool {
        self.e <= LARGEST
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_halved_nibbles(&self.qs));
        to.put(1, self.e);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { e: from.get(1), qs: bits::join_halves(&bits::unpack_nibbles(&from.get(0))) }
    }
}

/// A weight as checkpoints have it: codes two a byte, the first in the low nibble, and the
/// exponents apart.
#[derive(Debug)]
pub(crate) struct Pairs {
    pub shape: [usize; 2],
    /// 16 bytes for each exponent.
    pub codes: Bytes,
    pub exponents: Bytes,
}

impl Pairs {
    /// Codes and exponents of some rows.
    fn rows(&self, rows: Range<usize>) -> (&[[u8; 16]], &[u8]) {
        let groups = self.shape[1] / 32;
        let groups = rows.start * groups..rows.end * groups;
        (&self.codes.as_chunks().0[groups.clone()], &self.exponents[groups])
    }
}

impl Storage for Pairs {
    fn layout(&self) -> Layout {
        Layout { book: Codebook::Sixteen(SIGNED), ..FORMAT.layout(self.shape[1]) }
    }

    fn parts(&self) -> Vec<Part> {
        let [rows, cols] = self.shape;
        vec![
            Part::new("_packed", "U8", vec![rows, cols / 2], self.codes.clone()),
            Part::new("_scale", "U8", vec![rows, cols / 32], self.exponents.clone()),
        ]
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (codes, exponents) = self.rows(row..row + 1);
        for ((out, codes), e) in out.as_chunks_mut::<32>().0.iter_mut().zip(codes).zip(exponents) {
            let d = scale(*e);
            *out = std::array::from_fn(|i| d * SIGNED[usize::from(codes[i / 2] >> (i % 2 * 4) & 15)]);
        }
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        self.rows(rows).1.iter().all(|e| *e <= LARGEST)
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        let (codes, exponents) = self.rows(row..row + 1);
        bits::put_nibble_pairs(planes[0], codes.as_flattened());
        bytemuck::cast_slice_mut(planes[1])[..exponents.len()].copy_from_slice(exponents);
    }
}
