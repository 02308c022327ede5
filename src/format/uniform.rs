//! Codes on a uniform grid: `w = (q - zero) * scale`, with a scale (and a zero) for a whole tensor, a row, or a run of its columns.
//!
//! INT8 and INT4 are symmetric ("absmax"), UINT8 and UINT4 have zeros ("affine"). The row-wise INT8 is that of LLM.int8.

use super::storage::Part;
use super::{Book, Codes, Format, Layout, Plane, Storage, bits};
use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The whole tensor.
    Tensor,
    /// A row.
    Row,
    /// So many consecutive columns of a row, the last of which may be fewer.
    Columns(usize),
}

/// One of the formats.
#[derive(Debug)]
pub(crate) struct Grid {
    pub format: &'static Format,
    /// 4 or 8.
    pub bits: usize,
    /// Codes have signs, and no zeros.
    pub symmetric: bool,
    /// What a tensor's scales are for where nothing else is said.
    pub group: Group,
}

impl Grid {
    /// The code that stands for zero in symmetric formats, as it is stored.
    fn center(&self) -> i32 {
        if self.bits == 4 { 8 } else { 0 }
    }

    /// The largest code, counted from the center.
    fn top(&self) -> f32 {
        if self.symmetric { (1 << (self.bits - 1)) as f32 - 1.0 } else { (1 << self.bits) as f32 - 1.0 }
    }
}

/// A weight on a uniform grid.
#[derive(Clone, Debug)]
pub(crate) struct Uniform {
    pub grid: &'static Grid,
    pub shape: [usize; 2],
    /// Columns that share a scale: all of a row, or fewer.
    pub group: usize,
    /// Rows one after the other: a byte a code, signed in INT8; or two codes a byte, the first low, rows starting with a byte.
    pub codes: Bytes,
    /// `[rows, groups]`
    pub scales: Vec<f32>,
    /// `[rows, groups]`, empty in symmetric formats.
    pub zeros: Vec<f32>,
    /// The largest magnitude of each row, where the file keeps that instead of the scale.
    pub absmax: Option<Vec<f32>>,
}

impl Uniform {
    fn groups(&self) -> usize {
        self.shape[1].div_ceil(self.group.max(1))
    }

    fn row_bytes(&self) -> usize {
        (self.shape[1] * self.grid.bits).div_ceil(8)
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.codes[row * self.row_bytes()..(row + 1) * self.row_bytes()]
    }

    /// Code `i` of a row less what is zero in symmetric formats.
    fn code(&self, row: &[u8], i: usize) -> f32 {
        let code = match (self.grid.bits, self.grid.symmetric) {
            (8, true) => i32::from(row[i] as i8),
            (8, false) => i32::from(row[i]),
            _ => i32::from(row[i / 2] >> (i % 2 * 4) & 15),
        };
        (code - if self.grid.symmetric { self.grid.center() } else { 0 }) as f32
    }

    /// The scales, or zeros, of a row.
    fn of_row<'a>(&self, values: &'a [f32], row: usize) -> &'a [f32] {
        let groups = self.groups();
        if values.is_empty() { &[] } else { &values[row * groups..(row + 1) * groups] }
    }
}

impl Storage for Uniform {
    fn layout(&self) -> Layout {
        layout_of(self.grid, self.shape[1], self.group)
    }

    fn parts(&self) -> Vec<Part> {
        let [rows, cols] = self.shape;
        let dtype = if self.grid.symmetric && self.grid.bits == 8 { "I8" } else { "U8" };
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Bytes>();
        let groups = vec![rows, self.groups()];
        let row_bytes = (cols * self.grid.bits).div_ceil(8);
        if let Some(absmax) = &self.absmax {
            // The order of the rows is number 0, "row".
            let bytes = [self.codes.clone(), floats(absmax), vec![0].into()];
            return int8_headers(self.shape).into_iter().zip(bytes).map(|(p, b)| p.with_bytes(b)).collect();
        }
        let codes = Part::new("", dtype, vec![rows, row_bytes], self.codes.clone());
        let mut parts = vec![codes, Part::new("_scale", "F32", groups.clone(), floats(&self.scales))];
        if !self.zeros.is_empty() {
            parts.push(Part::new("_zero_point", "F32", groups, floats(&self.zeros)));
        }
        parts
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (codes, scales, zeros) =
            (self.row(row), self.of_row(&self.scales, row), self.of_row(&self.zeros, row));
        for (i, out) in out.iter_mut().enumerate() {
            let zero = zeros.get(i / self.group).copied().unwrap_or(0.0);
            *out = (self.code(codes, i) - zero) * scales[i / self.group];
        }
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        let finite = |values: &[f32], row| self.of_row(values, row).iter().all(|v| v.is_finite());
        rows.into_iter().all(|row| finite(&self.scales, row) && finite(&self.zeros, row))
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        match self.grid.bits {
            8 => {
                for (to, codes) in planes[0].iter_mut().zip(self.row(row).chunks(4)) {
                    let mut word = [0; 4];
                    word[..codes.len()].copy_from_slice(codes);
                    *to = u32::from_le_bytes(word);
                }
            }
            _ => {
                let bytes = self.row(row);
                let chunks = planes[0].as_chunks_mut::<4>().0.iter_mut();
                for (words, start) in chunks.zip((0..self.shape[1]).step_by(32)) {
                    let mut codes = [0; 32];
                    for (code, i) in codes.iter_mut().zip(start..self.shape[1]) {
                        *code = bytes[i / 2] >> (i % 2 * 4) & 15;
                    }
                    *words = bits::pack_nibbles(&codes);
                }
            }
        }
        let (scales, zeros) = (self.of_row(&self.scales, row), self.of_row(&self.zeros, row));
        match zeros {
            [] => planes[1].iter_mut().zip(scales).for_each(|(to, d)| *to = d.to_bits()),
            _ => {
                let pairs = planes[1].as_chunks_mut::<2>().0.iter_mut();
                pairs.zip(scales.iter().zip(zeros)).for_each(|(to, (d, z))| *to = [d.to_bits(), z.to_bits()]);
            }
        }
    }

    fn without_columns(&self, columns: &[u32]) -> Option<Arc<dyn Storage>> {
        if self.grid.bits != 8 || !self.grid.symmetric {
            return None;
        }
        let mut codes = self.codes.to_vec();
        for row in codes.chunks_mut(self.shape[1].max(1)) {
            columns.iter().for_each(|column| row[*column as usize] = 0);
        }
        Some(Arc::new(Self { codes: codes.into(), ..self.clone() }))
    }
}

/// What the shader is told of our own encoder's codes.
pub(super) fn layout(grid: &Grid, cols: usize) -> Layout {
    layout_of(grid, cols, group_columns(grid.group, cols))
}

/// Columns of a row that share a scale.
fn group_columns(group: Group, cols: usize) -> usize {
    match group {
        Group::Tensor | Group::Row => cols.max(1),
        Group::Columns(columns) => columns.min(cols).max(1),
    }
}

fn layout_of(grid: &Grid, cols: usize, group: usize) -> Layout {
    let one = group >= cols;
    // A chunk of 32 has one scale, or each weight asks for its own.
    let fine = !one && !group.is_multiple_of(32);
    // The last chunk asks for its columns behind the last, too.
    let groups = if fine { cols.next_multiple_of(32).div_ceil(group) } else { cols.div_ceil(group.max(1)) };
    let words = groups * if grid.symmetric { 1 } else { 2 };
    let has_codes = !fine && (grid.symmetric || grid.bits == 4);
    Layout {
        format: grid.format,
        constants: vec![
            // All of a row is one group whatever its length, so that rows of all lengths share their pipelines.
            ("GROUP", if one { 0 } else { group as u32 }),
            ("FINE", fine.into()),
            ("ZEROS", (!grid.symmetric).into()),
        ],
        planes: vec![
            Plane::new("qs", grid.bits * 256),
            Plane { name: "d", bits_per_256: 0, more_words: words },
        ],
        book: Book::None,
        codes: if has_codes { grid.format.codes } else { Codes::None },
    }
}

/// The grid of a format.
pub(crate) fn grid(format: &Format) -> Option<&'static Grid> {
    let all = [&super::int8::GRID, &super::int4::GRID, &super::uint8::GRID, &super::uint4::GRID];
    all.into_iter().find(|grid| grid.format == format)
}

/// Encodes as bitsandbytes does for LLM.int8: weights as halves, the largest magnitude of each row as 127.
pub(crate) fn encode_int8(shape: (usize, usize), weights: &[f32]) -> Arc<dyn Storage> {
    let halves: Vec<f32> = weights.par_iter().map(|w| half::f16::from_f32(*w).to_f32()).collect();
    let (codes, absmax): (Vec<_>, Vec<_>) = rows_of(&halves, shape).map(encode_int8_row).unzip();
    Arc::new(int8_rows(shape, codes.concat().into(), absmax))
}

/// The parts that such a weight has in a file, without their bytes.
pub(crate) fn int8_headers([rows, cols]: [usize; 2]) -> Vec<Part> {
    vec![
        Part::header("", "I8", vec![rows, cols]),
        Part::sibling(".SCB", "F32", vec![rows]),
        Part::sibling(".weight_format", "U8", vec![]),
    ]
}

/// Row-wise codes of INT8 with the largest magnitude of each row.
pub(crate) fn int8_rows(shape: (usize, usize), codes: Bytes, absmax: Vec<f32>) -> Uniform {
    Uniform {
        grid: &super::int8::GRID,
        shape: [shape.0, shape.1],
        group: shape.1.max(1),
        codes,
        scales: absmax.iter().map(|max| max / 127.0).collect(),
        zeros: vec![],
        absmax: Some(absmax),
    }
}

fn encode_int8_row(row: &[f32]) -> (Vec<u8>, f32) {
    let absmax = largest(row);
    let scale = int8_scale(absmax);
    (row.iter().map(|w| (w * scale).round_ties_even() as i8 as u8).collect(), absmax)
}

/// What bitsandbytes multiplies the numbers of a row by, whose largest magnitude this is. It writes `127 / absmax`, which PyTorch
/// computes as a reciprocal and a product, each rounded: a step off for some, and ties are common among halves.
pub(crate) fn int8_scale(absmax: f32) -> f32 {
    if absmax == 0.0 { 0.0 } else { 1.0 / absmax * 127.0 }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |max, w| max.max(w.abs()))
}

/// Rows in parallel; as many empty ones where there are no columns.
fn rows_of(weights: &[f32], shape: (usize, usize)) -> impl IndexedParallelIterator<Item = &[f32]> {
    (0..shape.0).into_par_iter().map(move |row| &weights[row * shape.1..(row + 1) * shape.1])
}

/// Encodes with the scales and zeros that span each group, zero included, and codes rounded to even.
pub(crate) fn encode(
    grid: &'static Grid,
    shape: (usize, usize),
    weights: &[f32],
    group: Group,
) -> Arc<dyn Storage> {
    let columns = group_columns(group, shape.1);
    let of_tensor = (group == Group::Tensor).then(|| span(grid, weights));
    let rows = rows_of(weights, shape).map(|row| {
        let spans: Vec<(f32, f32)> =
            row.chunks(columns).map(|w| of_tensor.unwrap_or_else(|| span(grid, w))).collect();
        let code = |(i, w): (usize, &f32)| encode_one(grid, *w, spans[i / columns]);
        let codes: Vec<u8> = row.iter().enumerate().map(code).collect();
        (join(grid, &codes), spans)
    });
    let (codes, spans): (Vec<Vec<u8>>, Vec<_>) = rows.unzip();
    let spans = spans.concat();
    Arc::new(Uniform {
        grid,
        shape: [shape.0, shape.1],
        group: columns,
        codes: codes.concat().into(),
        scales: spans.iter().map(|(d, _)| *d).collect(),
        zeros: if grid.symmetric { vec![] } else { spans.iter().map(|(_, z)| *z).collect() },
        absmax: None,
    })
}

/// Scale and zero of a group.
fn span(grid: &Grid, weights: &[f32]) -> (f32, f32) {
    if grid.symmetric {
        return (largest(weights) / grid.top(), 0.0);
    }
    let (min, max) = weights.iter().fold((0f32, 0f32), |(min, max), w| (min.min(*w), max.max(*w)));
    let scale = (max - min) / grid.top();
    let zero = if scale > 0.0 { (-min / scale).round_ties_even() } else { 0.0 };
    (scale, zero.clamp(0.0, grid.top()))
}

/// The code as it is stored.
fn encode_one(grid: &Grid, w: f32, (scale, zero): (f32, f32)) -> u8 {
    let q = if scale > 0.0 { (w / scale).round_ties_even() } else { 0.0 };
    match grid.symmetric {
        true => (q.clamp(-grid.top(), grid.top()) as i32 + grid.center()) as u8,
        false => (q + zero).clamp(0.0, grid.top()) as u8,
    }
}

/// Codes of a row as bytes.
fn join(grid: &Grid, codes: &[u8]) -> Vec<u8> {
    match grid.bits {
        8 => codes.to_vec(),
        _ => codes.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |q| q << 4)).collect(),
    }
}
