//! NVFP4_GLOBAL: NVFP4 as NVIDIA defines it, with one more scale for the whole tensor: 16 weights
//! in 9 bytes, codes (E2M1, two a byte, the first in the low nibble) and d (E4M3) apart.
//!
//! `w[i] = e2m1(q[i]) * (d[i / 16] / global)`; ModelOpt has `d[i / 16] * global`. Each rounds once
//! to f32, the scale first.

use crate::error::Result;
use crate::format::bits::largest;
use crate::format::fp8::fp8_e4m3;
use crate::format::microscale::mxfp4::SIGNED;
use crate::format::recipe::{Encoder, Job};
use crate::format::storage::{Part, f32_bytes};
use crate::format::{Codebook, Codes, Coding, Format, Layout, Parts, Plane, Storage, bits};
use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

pub static FORMAT: Format = Format {
    name: "NVFP4_GLOBAL",
    stem: "nvfp4_global",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.5,
        encoder: &CompressedTensors,
        layout: |_| layout(&Global::Factor(1.0).scales()),
    }),
    shader: include_str!("../../../shaders/decode/nvfp4_global.wgsl"),
};

/// The scale of a tensor, as its file keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Global {
    /// Scales are divided by it.
    Divisor(f32),
    /// Scales are multiplied by it.
    Factor(f32),
}

impl Global {
    /// The scales of all bytes, for values that are twice those of E2M1. The division is done here:
    /// that of WGSL is not exact.
    fn scales(self) -> Arc<[f32]> {
        let scale = |d: &f32| match self {
            Self::Divisor(global) => d / global,
            Self::Factor(global) => d * global,
        };
        fp8_e4m3::KIND.values.iter().map(|d| scale(d) / 2.0).collect()
    }

    fn value(self) -> f32 {
        match self {
            Self::Divisor(global) | Self::Factor(global) => global,
        }
    }
}

/// A weight of NVFP4.
#[derive(Debug)]
pub(crate) struct Nvfp4 {
    shape: [usize; 2],
    codes: Bytes,
    /// A byte for each 16 weights.
    d: Bytes,
    global: Global,
    /// By byte.
    scales: Arc<[f32]>,
}

impl Nvfp4 {
    /// Columns are a multiple of 16.
    pub fn new(shape: [usize; 2], codes: Bytes, d: Bytes, global: Global) -> Self {
        Self { shape, codes, d, global, scales: global.scales() }
    }

    /// Codes and scales of a row.
    fn row(&self, row: usize) -> (&[u8], &[u8]) {
        let (codes, d) = (self.shape[1].div_ceil(2), self.shape[1].div_ceil(16));
        (&self.codes[row * codes..(row + 1) * codes], &self.d[row * d..(row + 1) * d])
    }
}

impl Storage for Nvfp4 {
    fn layout(&self) -> Layout {
        layout(&self.scales)
    }

    fn parts(&self) -> Vec<Part> {
        let [rows, cols] = self.shape;
        let [codes, scale, global] = match self.global {
            Global::Divisor(_) => ["_packed", "_scale", "_global_scale"],
            Global::Factor(_) => ["", "_scale", "_scale_2"],
        };
        vec![
            Part::new(codes, "U8", vec![rows, cols.div_ceil(2)], self.codes.clone()),
            Part::new(scale, "F8_E4M3", vec![rows, cols.div_ceil(16)], self.d.clone()),
            Part::new(global, "F32", vec![1], f32_bytes(&[self.global.value()])),
        ]
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (codes, d) = self.row(row);
        for ((out, codes), d) in out.chunks_mut(16).zip(codes.chunks(8)).zip(d) {
            let d = self.scales[usize::from(*d)];
            for (out, q) in out.chunks_mut(2).zip(codes) {
                out.iter_mut().zip([q & 15, q >> 4]).for_each(|(w, q)| *w = d * SIGNED[usize::from(q)]);
            }
        }
    }

    fn is_finite(&self, mut rows: Range<usize>) -> bool {
        // An infinite divisor would make zeros of all weights.
        if !self.global.value().is_finite() {
            return false;
        }
        // 12 is the largest of the values.
        rows.all(|row| self.row(row).1.iter().all(|d| (self.scales[usize::from(*d)] * 12.0).is_finite()))
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        let (codes, d) = self.row(row);
        bits::put_nibble_pairs(planes[0], codes);
        bytemuck::cast_slice_mut(planes[1])[..d.len()].copy_from_slice(d);
    }
}

fn layout(scales: &Arc<[f32]>) -> Layout {
    Layout {
        format: &FORMAT,
        constants: vec![],
        planes: vec![Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)],
        book: Codebook::SixteenAndScales(SIGNED, scales.clone()),
        codes: Codes::Integers,
        ordered: false,
    }
}

/// Encodes as compressed-tensors does: the largest scale becomes 448, all are rounded to E4M3, and
/// then the codes.
struct CompressedTensors;

impl Encoder for CompressedTensors {
    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        let [rows, cols] = job.shape;
        let absmax = largest(job.weights);
        // 448 times 6 is the largest number that both together can say.
        let global = if absmax > 0.0 { (448.0 * 6.0 / absmax).min(f32::MAX) } else { 1.0 };
        let row = |row: usize| {
            let weights = &job.weights[row * cols..(row + 1) * cols];
            let d: Vec<u8> =
                weights.chunks(16).map(|w| fp8_e4m3::KIND.code(largest(w) / 6.0 * global)).collect();
            let code = |(i, w): (usize, &f32)| {
                encode_one(*w, fp8_e4m3::KIND.values[usize::from(d[i / 16])] / global)
            };
            let codes: Vec<u8> = weights.iter().enumerate().map(code).collect();
            let bytes: Vec<u8> = codes.chunks(2).map(|q| q[0] | q.get(1).map_or(0, |q| q << 4)).collect();
            (bytes, d)
        };
        let (codes, d): (Vec<_>, Vec<_>) = (0..rows).into_par_iter().map(row).unzip();
        let (codes, d) = (codes.concat().into(), d.concat().into());
        Ok(Arc::new(Nvfp4::new(job.shape, codes, d, Global::Divisor(global))))
    }
}

/// Half-way between the magnitudes of E2M1.
const PIVOTS: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];

/// The nearest code; half-way between two the even one.
fn encode_one(w: f32, scale: f32) -> u8 {
    let x = if scale > 0.0 { (w / scale).abs() } else { 0.0 };
    let above = |(i, pivot): (usize, &f32)| if i % 2 == 0 { x > *pivot } else { x >= *pivot };
    let code = PIVOTS.iter().enumerate().filter(|pivot| above(*pivot)).count();
    code as u8 | (w.to_bits() >> 31 << 3) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_two_codes_becomes_even() {
        let cases = [
            (0.25, 0),
            (0.26, 1),
            (0.75, 2),
            (1.25, 2),
            (1.75, 4),
            (2.5, 4),
            (3.5, 6),
            (5.0, 6),
            (5.1, 7),
            (9.0, 7),
        ];
        for (x, code) in cases {
            assert_eq!([encode_one(x * 3.0, 3.0), encode_one(-x * 3.0, 3.0)], [code, code | 8], "{x}");
        }
    }
}
