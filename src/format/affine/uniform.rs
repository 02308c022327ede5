//! Codes on a uniform grid: `w = (q - zero) * scale`, with a scale (and a zero) for a whole tensor,
//! a row, or a run of its columns.
//!
//! INT8, INT4, INT3 and INT2 are symmetric ("absmax"), UINT8 to UINT2 have zeros ("affine"). The
//! row-wise INT8 is that of LLM.int8; those of GPTQ, AWQ, compressed-tensors and HQQ have groups of
//! columns, and GPTQ may have put the columns of a group anywhere in a row. MLX adds an offset
//! after the scale where others subtract a zero before it, HQQ may let groups run down the rows,
//! and ModelOpt multiplies columns by a scale of their own.

use crate::error::Result;
use crate::format::bits::largest;
use crate::format::recipe::{Choice, Encoder, Group, Job, Recipe};
use crate::format::storage::{Part, Runs, f32_bytes};
use crate::format::{Codebook, Codes, Format, Layout, Plane, Storage, bits};
use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// One of the formats.
#[derive(Debug)]
pub(crate) struct Grid {
    pub format: &'static Format,
    /// Of a code on the device: 2, 3, 4 or 8.
    pub bits: usize,
    /// Codes are counted from the middle, and there are no zeros.
    pub symmetric: bool,
    /// What a tensor's scales are for where nothing else is said.
    pub group: Group,
}

impl Grid {
    /// The code that stands for zero in symmetric formats, as the device has it.
    fn center(&self) -> i32 {
        if self.bits == 8 { 0 } else { 1 << (self.bits - 1) }
    }

    /// The largest code, counted from the center.
    fn top(&self) -> f32 {
        if self.symmetric { (1 << (self.bits - 1)) as f32 - 1.0 } else { (1 << self.bits) as f32 - 1.0 }
    }
}

/// Rows of codes, one behind the other: code `i` of a row is bits `i * bits ..` of it, the lowest
/// first.
#[derive(Clone, Debug)]
pub(crate) struct CodeRows {
    pub bytes: Bytes,
    pub row_bytes: usize,
    /// 1 to 8.
    pub bits: usize,
    /// Codes of eight bits in two's complement.
    pub signed: bool,
}

impl CodeRows {
    /// Codes without gaps but for the last byte of a row.
    pub fn dense(bytes: impl Into<Bytes>, bits: usize, cols: usize, signed: bool) -> Self {
        Self { bytes: bytes.into(), row_bytes: (cols * bits).div_ceil(8), bits, signed }
    }

    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes]
    }

    /// Code `i` of the bytes of a row.
    pub fn code(&self, row: &[u8], i: usize) -> i32 {
        if self.signed {
            return i32::from(row[i] as i8);
        }
        let (byte, shift) = (i * self.bits / 8, i * self.bits % 8);
        let next = row.get(byte + 1).map_or(0, |b| u32::from(*b) << 8);
        ((u32::from(row[byte]) | next) >> shift) as i32 & ((1 << self.bits) - 1)
    }

    /// The code that stands for zero where there are no zeros.
    fn center(&self) -> i32 {
        if self.signed { 0 } else { 1 << (self.bits - 1) }
    }
}

/// Which group a column belongs to.
#[derive(Clone, Debug)]
pub(crate) enum Columns {
    /// Runs of so many columns.
    Runs(usize),
    /// The same, after the columns have been put in this order, which the device does.
    Ordered { run: usize, groups: Arc<[u32]>, order: Arc<[u32]> },
    /// Any, by number.
    Any(Arc<[u32]>),
    /// Groups run down the rows: the weights in reading order share so many scales in turn, weight
    /// `i` that of number `i % cells`.
    Down { cells: usize },
}

impl Columns {
    /// Columns of groups by number, `count` groups of about `run` columns.
    pub fn of_numbers(numbers: Vec<u32>, run: usize) -> Self {
        if numbers.iter().enumerate().all(|(i, g)| *g as usize == i / run) {
            return Self::Runs(run);
        }
        let mut order: Vec<u32> = (0..numbers.len() as u32).collect();
        order.sort_by_key(|i| numbers[*i as usize]);
        match order.iter().enumerate().all(|(p, i)| numbers[*i as usize] as usize == p / run) {
            true => Self::Ordered { run, groups: numbers.into(), order: order.into() },
            false => Self::Any(numbers.into()),
        }
    }

    fn group(&self, column: usize) -> usize {
        match self {
            Self::Runs(run) => column / run,
            Self::Ordered { groups, .. } | Self::Any(groups) => groups[column] as usize,
            Self::Down { cells } => column % cells,
        }
    }

    /// The column at a place of the device's order.
    fn at(&self, place: usize) -> usize {
        match self {
            Self::Ordered { order, .. } => order[place] as usize,
            _ => place,
        }
    }
}

/// A weight on a uniform grid.
#[derive(Clone, Debug)]
pub(crate) struct Uniform {
    pub grid: &'static Grid,
    pub shape: [usize; 2],
    pub columns: Columns,
    pub codes: CodeRows,
    /// Groups of a row.
    pub groups: usize,
    /// `[rows, groups]`, or those of all cells.
    pub scales: Vec<f32>,
    /// As many, empty in symmetric formats.
    pub zeros: Vec<f32>,
    /// What few tools have.
    pub more: More,
}

/// What few tools have besides codes, scales and zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    /// The largest magnitude of each row, where the file keeps that instead of the scale.
    pub absmax: Option<Vec<f32>>,
    /// The zeros are offsets: `w = q * scale + offset`.
    pub offsets: bool,
    /// What the weights of each column are multiplied by, too.
    pub column_scales: Option<Arc<[f32]>>,
    /// Whether a scale and its zero fit one word; found out once.
    pub halves: OnceLock<bool>,
}

impl Uniform {
    /// The group of the first weight of a row, for scales that are counted over all rows.
    fn first_group(&self, row: usize) -> usize {
        match self.columns {
            Columns::Down { cells } => row * self.shape[1] % cells,
            _ => 0,
        }
    }

    /// True if codes and scales alone do not bound the weights.
    fn is_special(&self) -> bool {
        self.more.offsets || self.more.column_scales.is_some()
    }

    /// True if a scale and its zero fit one word on the device: a normal half, and an integer.
    fn fits_halves(&self) -> bool {
        let half = |d: &f32| {
            let half = half::f16::from_f32(*d);
            half.to_f32().to_bits() == d.to_bits() && half.is_normal()
        };
        let integer = |z: &f32| z.fract() == 0.0 && (0.0..65536.0).contains(z);
        let has_words = !self.zeros.is_empty() && !self.more.offsets && !self.is_down();
        has_words && self.scales.par_iter().all(half) && self.zeros.par_iter().all(integer)
    }

    fn has_halves(&self) -> bool {
        *self.more.halves.get_or_init(|| self.fits_halves())
    }

    fn is_down(&self) -> bool {
        matches!(self.columns, Columns::Down { .. })
    }

    /// What the layout depends on.
    fn layout_parts(&self) -> LayoutParts<'_> {
        LayoutParts {
            grid: self.grid,
            cols: self.shape[1],
            columns: &self.columns,
            halves: self.has_halves(),
            offsets: self.more.offsets,
            column_scales: self.more.column_scales.is_some(),
        }
    }

    /// Code `i` of a row less what is zero in symmetric formats.
    fn code(&self, row: &[u8], i: usize) -> i32 {
        self.codes.code(row, i) - if self.grid.symmetric { self.codes.center() } else { 0 }
    }

    /// The scales, or zeros, of a row: all cells where groups run down.
    fn of_row<'a>(&self, values: &'a [f32], row: usize) -> &'a [f32] {
        match self.columns {
            Columns::Down { .. } => values,
            _ if values.is_empty() => &[],
            _ => &values[row * self.groups..(row + 1) * self.groups],
        }
    }

    /// True if no code could make a weight of this row infinite.
    fn is_bounded(&self, row: usize) -> bool {
        if self.is_special() {
            return false;
        }
        let (scales, zeros) = (self.of_row(&self.scales, row), self.of_row(&self.zeros, row));
        // Codes less what is zero lie between.
        let bound = (1 << self.codes.bits) as f32;
        let zero = |group: usize| zeros.get(group).map_or(0.0, |zero| zero.abs());
        scales.iter().enumerate().all(|(group, scale)| ((bound + zero(group)) * scale).is_finite())
    }

    /// True if all weights of a row are numbers.
    fn all_finite(&self, row: usize) -> bool {
        let mut weights = vec![0.0; self.shape[1]];
        self.decode_row(row, &mut weights);
        weights.iter().all(|w| w.is_finite())
    }

    /// The codes of 32 places of the device's order, as the device has them.
    fn chunk(&self, row: &[u8], start: usize) -> [u8; 32] {
        let center = if self.grid.symmetric { self.grid.center() } else { 0 };
        let mut codes = [0; 32];
        for (code, place) in codes.iter_mut().zip(start..self.shape[1]) {
            *code = (self.code(row, self.columns.at(place)) + center) as u8;
        }
        codes
    }
}

impl Storage for Uniform {
    fn layout(&self) -> Layout {
        let mut layout = layout_of(&self.layout_parts());
        if let Some(scales) = &self.more.column_scales {
            // Chunks of 32 ask for their columns behind the last, too.
            let words = scales.iter().map(|scale| scale.to_bits());
            let words = words.chain(std::iter::repeat(0)).take(scales.len().next_multiple_of(32));
            layout.book = Codebook::Words(words.collect());
        }
        if self.is_down() {
            let cells = self.scales.iter().zip(&self.zeros);
            let words = cells.flat_map(|(scale, zero)| [scale.to_bits(), zero.to_bits()]);
            layout.book = Codebook::Words(words.collect());
        }
        layout
    }

    fn parts(&self) -> Vec<Part> {
        let [rows, _] = self.shape;
        let dtype = if self.codes.signed { "I8" } else { "U8" };
        let groups = if self.is_down() { vec![1, self.groups] } else { vec![rows, self.groups] };
        if let Some(absmax) = &self.more.absmax {
            // The order of the rows is number 0, "row".
            let bytes = [self.codes.bytes.clone(), f32_bytes(absmax), vec![0].into()];
            return int8_headers(self.shape).into_iter().zip(bytes).map(|(p, b)| p.with_bytes(b)).collect();
        }
        let codes = Part::new("", dtype, vec![rows, self.codes.row_bytes], self.codes.bytes.clone());
        let mut parts = vec![codes, Part::new("_scale", "F32", groups.clone(), f32_bytes(&self.scales))];
        if !self.zeros.is_empty() {
            let suffix = if self.more.offsets { "_offset" } else { "_zero_point" };
            parts.push(Part::new(suffix, "F32", groups, f32_bytes(&self.zeros)));
        }
        if let Some(scales) = &self.more.column_scales {
            parts.push(Part::new("_column_scale", "F32", vec![scales.len()], f32_bytes(scales)));
        }
        parts
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (codes, scales, zeros) =
            (self.codes.row(row), self.of_row(&self.scales, row), self.of_row(&self.zeros, row));
        let first = self.first_group(row);
        for (i, out) in out.iter_mut().enumerate() {
            let group = self.columns.group(first + i);
            let (code, zero) = (self.code(codes, i) as f32, zeros.get(group).copied().unwrap_or(0.0));
            *out = match self.more.offsets {
                true => code * scales[group] + zero,
                false => (code - zero) * scales[group],
            };
        }
        if let Some(scales) = &self.more.column_scales {
            out.iter_mut().zip(scales.iter()).for_each(|(w, scale)| *w *= scale);
        }
    }

    fn is_finite(&self, mut rows: Range<usize>) -> bool {
        let finite = |values: &[f32], row| self.of_row(values, row).iter().all(|v| v.is_finite());
        // Of a huge scale the codes decide.
        rows.all(|row| {
            finite(&self.scales, row)
                && finite(&self.zeros, row)
                && (self.is_bounded(row) || self.all_finite(row))
        })
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        let bytes = self.codes.row(row);
        for (chunk, start) in (0..self.shape[1]).step_by(32).enumerate() {
            let codes = self.chunk(bytes, start);
            match self.grid.bits {
                8 => bits::put_words(&mut planes[0][8 * chunk..], &codes),
                4 => planes[0][4 * chunk..4 * chunk + 4].copy_from_slice(&bits::pack_nibbles(&codes)),
                _ => planes[0][2 * chunk..2 * chunk + 2]
                    .copy_from_slice(&bits::pack_pairs(&codes.map(|q| q & 3))),
            }
            if self.grid.bits == 3 {
                planes[2][chunk] = bits::third_bits(&codes);
            }
        }
        if self.is_down() {
            planes[1][0] = self.first_group(row) as u32;
            return;
        }
        let (scales, zeros) = (self.of_row(&self.scales, row), self.of_row(&self.zeros, row));
        match zeros {
            [] => planes[1].iter_mut().zip(scales).for_each(|(to, d)| *to = d.to_bits()),
            _ if self.has_halves() => {
                let word =
                    |(d, z): (&f32, &f32)| u32::from(half::f16::from_f32(*d).to_bits()) | (*z as u32) << 16;
                planes[1]
                    .iter_mut()
                    .zip(scales.iter().zip(zeros).map(word))
                    .for_each(|(to, word)| *to = word);
            }
            _ => {
                let pairs = planes[1].as_chunks_mut::<2>().0.iter_mut();
                pairs.zip(scales.iter().zip(zeros)).for_each(|(to, (d, z))| *to = [d.to_bits(), z.to_bits()]);
            }
        }
    }

    fn without_columns(&self, columns: &[u32]) -> Option<Arc<dyn Storage>> {
        if !self.codes.signed || !self.grid.symmetric {
            return None;
        }
        let mut bytes = self.codes.bytes.to_vec();
        for row in bytes.chunks_mut(self.codes.row_bytes.max(1)) {
            columns.iter().for_each(|column| row[*column as usize] = 0);
        }
        let codes = CodeRows { bytes: bytes.into(), ..self.codes.clone() };
        Some(Arc::new(Self { codes, ..self.clone() }))
    }
}

/// What the shader is told of our own encoder's codes.
pub(in crate::format) fn layout(grid: &Grid, cols: usize) -> Layout {
    let columns = &Columns::Runs(group_columns(grid.group, cols));
    let (halves, offsets, column_scales) = (false, false, false);
    layout_of(&LayoutParts { grid, cols, columns, halves, offsets, column_scales })
}

/// What a layout depends on.
struct LayoutParts<'a> {
    grid: &'a Grid,
    cols: usize,
    columns: &'a Columns,
    halves: bool,
    offsets: bool,
    column_scales: bool,
}

/// Columns of a row that share a scale.
fn group_columns(group: Group, cols: usize) -> usize {
    match group {
        Group::Tensor | Group::Row => cols.max(1),
        Group::Columns(columns) => columns.min(cols).max(1),
    }
}

fn layout_of(parts: &LayoutParts) -> Layout {
    let &LayoutParts { grid, cols, columns, halves, offsets, column_scales } = parts;
    let any = matches!(columns, Columns::Any(_));
    let Runs { fine, group, groups } = match columns {
        Columns::Runs(run) | Columns::Ordered { run, .. } => Runs::new(cols, *run),
        Columns::Any(numbers) => {
            let groups = numbers.iter().max().map_or(0, |g| *g as usize + 1);
            Runs { fine: true, group: 1, groups }
        }
        Columns::Down { .. } => Runs { fine: true, group: 1, groups: 1 },
    };
    let cells = if let Columns::Down { cells } = columns { *cells as u32 } else { 0 };
    let words = groups * if grid.symmetric || halves || cells > 0 { 1 } else { 2 };
    let has_codes = !fine && !column_scales && (grid.symmetric || grid.bits != 8);
    let mut planes = vec![
        Plane::new("qs", grid.bits / 2 * 2 * 256),
        Plane { name: "d", bits_per_256: 0, more_words: words },
    ];
    if grid.bits == 3 {
        planes.push(Plane::new("third bits", 256));
    }
    Layout {
        format: grid.format,
        constants: vec![
            ("BITS", grid.bits as u32),
            ("GROUP", group),
            ("FINE", fine.into()),
            ("ZEROS", (!grid.symmetric).into()),
            ("HALVES", halves.into()),
            ("NUMBERED", any.into()),
            ("OFFSETS", offsets.into()),
            ("COLUMN_SCALES", column_scales.into()),
            ("CELLS", cells),
        ],
        planes,
        book: match columns {
            Columns::Any(numbers) => Codebook::Words(numbers.clone()),
            Columns::Ordered { order, .. } => Codebook::Words(order.clone()),
            Columns::Runs(_) | Columns::Down { .. } => Codebook::None,
        },
        codes: if has_codes { grid.format.codes } else { Codes::None },
        ordered: matches!(columns, Columns::Ordered { .. }),
    }
}

/// The parts that such a weight has in a file, without their bytes.
pub(crate) fn int8_headers([rows, cols]: [usize; 2]) -> Vec<Part> {
    vec![
        Part::header("", "I8", vec![rows, cols]),
        Part::sibling(".SCB", "F32", vec![rows]),
        Part::sibling(".weight_format", "U8", vec![]),
    ]
}

/// What bitsandbytes multiplies the numbers of a row by, whose largest magnitude this is. It writes
/// `127 / absmax`, which PyTorch computes as a reciprocal and a product, each rounded: a step off
/// for some, and ties are common among halves.
pub(crate) fn int8_scale(absmax: f32) -> f32 {
    if absmax == 0.0 { 0.0 } else { 1.0 / absmax * 127.0 }
}

/// Rows in parallel; as many empty ones where there are no columns.
pub(super) fn rows_of(
    weights: &[f32],
    [rows, cols]: [usize; 2],
) -> impl IndexedParallelIterator<Item = &[f32]> {
    (0..rows).into_par_iter().map(move |row| &weights[row * cols..(row + 1) * cols])
}

impl Encoder for &'static Grid {
    fn fault(&self, recipe: &Recipe) -> Option<String> {
        match recipe.choice() {
            Choice::Group(Group::Columns(0)) => Some("groups of 0 columns".into()),
            Choice::Group(_) => None,
            _ => recipe.foreign_choice(),
        }
    }

    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        let group = match job.recipe.choice() {
            Choice::Group(group) => group,
            _ => self.group,
        };
        Ok(encode(self, job, group))
    }
}

/// Encodes with the scales and zeros that span each group, zero included, and codes rounded to
/// even.
fn encode(grid: &'static Grid, job: &Job, group: Group) -> Arc<dyn Storage> {
    let &Job { shape, weights, .. } = job;
    let columns = group_columns(group, shape[1]);
    let of_tensor = (group == Group::Tensor).then(|| span(grid, weights));
    let rows = rows_of(weights, shape).map(|row| {
        let spans: Vec<(f32, f32)> =
            row.chunks(columns).map(|w| of_tensor.unwrap_or_else(|| span(grid, w))).collect();
        let code = |(i, w): (usize, &f32)| encode_one(grid, *w, spans[i / columns]);
        let codes: Vec<u8> = row.iter().enumerate().map(code).collect();
        (join(grid.bits, &codes), spans)
    });
    let (codes, spans): (Vec<Vec<u8>>, Vec<_>) = rows.unzip();
    let spans = spans.concat();
    Arc::new(Uniform {
        grid,
        shape,
        columns: Columns::Runs(columns),
        codes: CodeRows::dense(codes.concat(), grid.bits, shape[1], grid.symmetric && grid.bits == 8),
        groups: shape[1].div_ceil(columns),
        scales: spans.iter().map(|(d, _)| *d).collect(),
        zeros: if grid.symmetric { vec![] } else { spans.iter().map(|(_, z)| *z).collect() },
        more: More::default(),
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

/// Codes of a row as bytes, the lowest bits first.
pub(crate) fn join(bits: usize, codes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (codes.len() * bits).div_ceil(8)];
    for (i, code) in codes.iter().enumerate() {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let both = u16::from(*code) << shift;
        bytes[byte] |= both as u8;
        if both > 0xff {
            bytes[byte + 1] |= (both >> 8) as u8;
        }
    }
    bytes
}
