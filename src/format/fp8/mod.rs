//! What FP8_E4M3 and FP8_E5M2 have in common: `w = f32(q) * scale`, with a scale for a tensor, a
//! row, or a block of rows and columns.
//!
//! Blocks are those of DeepSeek (128 x 128, the last of a row or column smaller) or any others;
//! each matrix of a stack of experts has its own.

pub(crate) mod fp8_e4m3;
pub(crate) mod fp8_e5m2;

use crate::error::Result;
use crate::format::recipe::{Encoder, Job};
use crate::format::storage::{Part, Runs, f32_bytes};
use crate::format::{Codebook, Codes, Format, Layout, Plane, Storage, bits};
use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// One of the formats.
#[derive(Debug)]
pub(crate) struct Kind {
    pub format: &'static Format,
    /// Its name in safetensors files.
    pub dtype: &'static str,
    /// Bits of the mantissa.
    pub mantissa: u32,
    /// What the 256 codes stand for.
    pub values: [f32; 256],
    /// The largest finite value.
    pub largest: f32,
}

/// The kind of this name in safetensors files.
pub(crate) fn kind(dtype: &str) -> Option<&'static Kind> {
    [&crate::format::fp8::fp8_e4m3::KIND, &crate::format::fp8::fp8_e5m2::KIND]
        .into_iter()
        .find(|kind| kind.dtype == dtype)
}

/// The values of all codes of so many bits of mantissa.
pub(in crate::format) const fn values(mantissa: u32) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code as usize] = value(code, mantissa);
        code += 1;
    }
    values
}

const fn value(code: u32, mantissa: u32) -> f32 {
    let (sign, a) = (code >> 7 << 31, code & 0x7f);
    let bias = (1 << (6 - mantissa)) - 1;
    // E4M3 has no infinity: all but its last code are numbers.
    let top = if mantissa == 3 { 0x7f } else { 0x7c };
    let infinite = if mantissa == 2 && a == top { f32::INFINITY } else { f32::NAN };
    let magnitude = match a >> mantissa {
        _ if a >= top => infinite,
        0 => a as f32 * f32::from_bits((128 - bias - mantissa) << 23),
        _ => f32::from_bits((a << (23 - mantissa)) + ((127 - bias) << 23)),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// 2^(e - 127), a number of E8M0; 255 is NaN, and 0 subnormal.
pub(crate) fn power(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(e) << 23),
    }
}

impl Kind {
    /// The nearest code of a finite number; half-way between two the even one.
    pub fn code(&self, x: f32) -> u8 {
        let magnitude = x.abs().min(self.largest);
        let above = self.values[..0x80].partition_point(|v| *v <= magnitude);
        let low = above - 1;
        let (down, up) = (magnitude - self.values[low], self.values[above] - magnitude);
        let even = if low.is_multiple_of(2) { low } else { above };
        let code = match down.partial_cmp(&up) {
            Some(std::cmp::Ordering::Equal) => even,
            Some(std::cmp::Ordering::Greater) => above,
            // Above the largest is NaN or infinity.
            _ => low,
        };
        code as u8 | (x.to_bits() >> 31 << 7) as u8
    }

    /// True if no code of them is NaN or infinite.
    fn all_finite(&self, codes: &[u8]) -> bool {
        let top = if self.mantissa == 3 { 0x7f } else { 0x7c };
        // Without a branch it vectorizes.
        codes.iter().fold(true, |ok, code| ok & (code & 0x7f < top))
    }
}

/// The scales of a weight.
#[derive(Debug)]
pub(crate) struct Scales {
    /// `[matrices, blocks of rows, blocks of columns]`
    pub values: Vec<f32>,
    /// Rows of one matrix.
    pub matrix: usize,
    /// Rows and columns that share a scale.
    pub block: [usize; 2],
    /// Weights are divided by them.
    pub divide: bool,
}

/// The numbers of three bits of mantissa from 1 to 2.
const MANTISSAS: [f32; 8] = [1.0, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875];

impl Scales {
    /// One for the whole tensor.
    pub fn one((rows, cols): (usize, usize), scale: f32) -> Self {
        Self { values: vec![scale], matrix: rows.max(1), block: [rows.max(1), cols.max(1)], divide: false }
    }

    /// One a row.
    fn rows(cols: usize, values: Vec<f32>) -> Self {
        Self { matrix: values.len().max(1), values, block: [1, cols.max(1)], divide: false }
    }

    /// A number of FP8 with its scale.
    fn times(&self, q: f32, scale: f32) -> f32 {
        if self.divide { q / scale } else { q * scale }
    }

    /// Those of a row.
    fn of_row(&self, row: usize, cols: usize) -> &[f32] {
        let [rows, columns] = self.block;
        let groups = cols.div_ceil(columns);
        let blocks = row / self.matrix * self.matrix.div_ceil(rows) + row % self.matrix / rows;
        &self.values[blocks * groups..(blocks + 1) * groups]
    }
}

/// A weight of FP8.
#[derive(Debug)]
pub(crate) struct Fp8 {
    pub kind: &'static Kind,
    pub shape: [usize; 2],
    /// A byte a weight, row by row.
    pub codes: Bytes,
    pub scales: Scales,
}

impl Fp8 {
    fn row(&self, row: usize) -> &[u8] {
        &self.codes[row * self.shape[1]..(row + 1) * self.shape[1]]
    }
}

impl Storage for Fp8 {
    fn layout(&self) -> Layout {
        layout_of(
            self.kind,
            self.shape[1],
            &Run { columns: self.scales.block[1], divide: self.scales.divide },
        )
    }

    fn parts(&self) -> Vec<Part> {
        let groups = self.shape[1].div_ceil(self.scales.block[1]).max(1);
        let shape = vec![self.scales.values.len() / groups, groups];
        let scales = f32_bytes(&self.scales.values);
        vec![
            Part::new("", self.kind.dtype, self.shape.to_vec(), self.codes.clone()),
            Part::new(if self.scales.divide { "_scale_inv" } else { "_scale" }, "F32", shape, scales),
        ]
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let scales = self.scales.of_row(row, self.shape[1]);
        let groups = out.chunks_mut(self.scales.block[1]).zip(self.row(row).chunks(self.scales.block[1]));
        for ((out, codes), scale) in groups.zip(scales) {
            let times = |q: &u8| self.scales.times(self.kind.values[usize::from(*q)], *scale);
            out.iter_mut().zip(codes).for_each(|(w, q)| *w = times(q));
        }
    }

    fn is_finite(&self, mut rows: Range<usize>) -> bool {
        let scale = |d: &f32| self.scales.times(self.kind.largest, *d).is_finite();
        rows.all(|row| {
            self.kind.all_finite(self.row(row)) && self.scales.of_row(row, self.shape[1]).iter().all(scale)
        })
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        bytemuck::cast_slice_mut(planes[0])[..self.shape[1]].copy_from_slice(self.row(row));
        let scales = self.scales.of_row(row, self.shape[1]);
        if self.scales.divide {
            // No shader divides exactly. Powers of two make no difference to a quotient.
            let quotients = scales.iter().flat_map(|scale| MANTISSAS.map(|mantissa| mantissa / scale));
            planes[1].iter_mut().zip(quotients).for_each(|(to, quotient)| *to = quotient.to_bits());
        } else {
            planes[1].iter_mut().zip(scales).for_each(|(to, scale)| *to = scale.to_bits());
        }
    }
}

/// What the shader is told of our own encoder's codes.
pub(in crate::format) fn layout(kind: &Kind, cols: usize) -> Layout {
    layout_of(kind, cols, &Run { columns: cols.max(1), divide: false })
}

/// The columns that share a scale, and whether it divides.
struct Run {
    columns: usize,
    divide: bool,
}

fn layout_of(kind: &Kind, cols: usize, run: &Run) -> Layout {
    let Runs { fine, group, groups } = Runs::new(cols, run.columns);
    let more_words = groups * if run.divide { MANTISSAS.len() } else { 1 };
    Layout {
        format: kind.format,
        constants: vec![
            ("MANTISSA", kind.mantissa),
            ("GROUP", group),
            ("FINE", fine.into()),
            ("QUOTIENTS", run.divide.into()),
        ],
        planes: vec![Plane::new("qs", 8 * 256), Plane { name: "d", bits_per_256: 0, more_words }],
        book: Codebook::None,
        codes: Codes::None,
        ordered: false,
    }
}

/// Encodes with the largest magnitude of each row as the largest number, codes rounded to even.
impl Encoder for &'static Kind {
    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        let [rows, cols] = job.shape;
        let row = |row: usize| encode_row(self, &job.weights[row * cols..(row + 1) * cols]);
        let (codes, scales): (Vec<_>, Vec<_>) = (0..rows).into_par_iter().map(row).unzip();
        let scales = Scales::rows(cols, scales);
        Ok(Arc::new(Fp8 { kind: self, shape: job.shape, codes: codes.concat().into(), scales }))
    }
}

fn encode_row(kind: &Kind, row: &[f32]) -> (Vec<u8>, f32) {
    let scale = bits::largest(row) / kind.largest;
    let code = |w: &f32| if scale > 0.0 { kind.code(w / scale) } else { 0 };
    (row.iter().map(code).collect(), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> [&'static Kind; 2] {
        ["F8_E4M3", "F8_E5M2"].map(|dtype| kind(dtype).expect("a kind"))
    }

    /// E5M2 is the upper half of F16, so that the crate for halves is a second witness.
    #[test]
    fn e5m2_is_half_of_f16() {
        for (code, value) in kinds()[1].values.iter().enumerate() {
            let half = half::f16::from_bits((code as u16) << 8).to_f32();
            assert!(value.to_bits() == half.to_bits() || value.is_nan() && half.is_nan(), "{code:02x}");
        }
    }

    #[test]
    fn every_number_is_its_own_code() {
        for kind in kinds() {
            for code in (0..=255u8).filter(|code| kind.all_finite(&[*code])) {
                assert_eq!(kind.code(kind.values[usize::from(code)]), code, "{}", kind.dtype);
            }
        }
    }

    #[test]
    fn numbers_between_go_to_the_nearer_and_to_even() {
        for kind in kinds() {
            for low in 0..0x7fu8 {
                let [a, b] = [low, low + 1].map(|code| kind.values[usize::from(code)]);
                if !b.is_finite() {
                    continue;
                }
                let middle = (a + b) / 2.0;
                let even = low + low % 2;
                assert_eq!(
                    [middle.next_down(), middle, middle.next_up()].map(|x| kind.code(x)),
                    [low, even, low + 1]
                );
            }
            assert_eq!(kind.values[usize::from(kind.code(-1e30))], -kind.largest);
        }
    }

    #[test]
    fn each_matrix_has_its_own_blocks() {
        // Two matrices of 5 rows, in blocks of 2 x 3 of 4 columns: 3 x 2 scales each.
        let scales =
            Scales { values: (0..12).map(|v| v as f32).collect(), matrix: 5, block: [2, 3], divide: false };
        let first: Vec<f32> = (0..10).map(|row| scales.of_row(row, 4)[0]).collect();
        assert_eq!(first, [0.0, 0.0, 2.0, 2.0, 4.0, 6.0, 6.0, 8.0, 8.0, 10.0]);
        assert_eq!(scales.of_row(9, 4), [10.0, 11.0]);
    }
}
