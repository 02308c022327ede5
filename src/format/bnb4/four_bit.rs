//! What NF4 and FP4 of bitsandbytes have in common: codes of four bits into a book of sixteen,
//! scales for blocks of the flattened tensor, and scales that may be quantized again ("double
//! quantization").
//!
//! `w[i] = absmax[i / block] * book[q[i]]`,
//! `absmax[j] = map[c[j]] * nested_absmax[j / nested_block] + offset`
//!
//! Element `2 i` lies in the *high* nibble of byte `i`. Blocks run on from one row into the next
//! where the columns are no multiple of them, and the last may be short.

#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::format::bits::largest;
use crate::format::recipe::{Choice, Encoder, FourBitConfig, Job, Recipe};
use crate::format::storage::{Part, f32_bytes};
use crate::format::{Codebook, Codes, Format, Layout, Plane, Storage, bits};
use bytes::Bytes;
use rayon::prelude::*;
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;

/// A book and how to find the nearest of its values. It is data, so that a shader can be told the
/// same.
pub(crate) struct Table {
    pub format: &'static Format,
    pub values: [f32; 16],
    /// The codes in the order of their values.
    pub codes: [u8; 16],
    /// What lies between neighbours in that order: `x` has the code behind all pivots that it is
    /// above. On a pivot it has the lower value.
    pub pivots: [f32; 15],
}

impl Table {
    /// The byte of two codes, by their places in the order of values, the first in the high nibble.
    fn pairs(&self) -> [u8; 256] {
        std::array::from_fn(|places| self.codes[places >> 4] << 4 | self.codes[places & 15])
    }
}

/// Half-way between neighbouring values.
pub(in crate::format) const fn midpoints(values: &[f32; 16], codes: &[u8; 16]) -> [f32; 15] {
    let mut pivots = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        pivots[i] = (values[codes[i] as usize] + values[codes[i + 1] as usize]) / 2.0;
        i += 1;
    }
    pivots
}

/// Weights that a thread encodes at a time: whole blocks of every size.
const RUN: usize = 1 << 15;
/// Weights that are encoded side by side.
const LANES: usize = 16;
/// Scales that share a scale when they are quantized.
pub(crate) const NESTED_BLOCK: usize = 256;

/// Scales that are quantized.
#[derive(Clone, Debug)]
pub(crate) struct Nested {
    pub codes: Bytes,
    pub map: Vec<f32>,
    pub absmax: Vec<f32>,
    pub block: usize,
    pub offset: f32,
}

impl Nested {
    /// Scale `i`: a product, rounded, and a sum, rounded.
    fn get(&self, i: usize) -> f32 {
        self.map[usize::from(self.codes[i])] * self.absmax[i / self.block] + self.offset
    }

    /// All scales.
    pub fn decode(&self) -> Vec<f32> {
        (0..self.codes.len()).into_par_iter().map(|i| self.get(i)).collect()
    }
}

/// A weight as bitsandbytes saves it.
#[derive(Debug)]
pub(crate) struct FourBit {
    pub format: &'static Format,
    /// As the checkpoint says; all dimensions but the last are rows.
    pub shape: Vec<usize>,
    pub config: FourBitConfig,
    pub codes: Bytes,
    pub absmax: Vec<f32>,
    pub book: [f32; 16],
    pub nested: Option<Nested>,
}

impl FourBit {
    fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    fn code(&self, i: usize) -> u8 {
        let byte = self.codes[i / 2];
        if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
    }

    /// The scales of a row, and where in its block the row starts.
    fn row_scales(&self, row: usize) -> (&[f32], usize) {
        let (first, block) = (row * self.cols(), self.config.block);
        let last = (first + self.cols()).div_ceil(block);
        (&self.absmax[first / block..last], first % block)
    }

    /// True if all weights of a row are numbers.
    fn all_finite(&self, row: usize) -> bool {
        let mut weights = vec![0.0; self.cols()];
        self.decode_row(row, &mut weights);
        weights.iter().all(|w| w.is_finite())
    }

    /// The text that says the shape, `quant_state`'s own.
    fn quant_state(&self) -> String {
        let offset = self.nested.as_ref().map(|nested| nested.offset);
        let text = state_text(self.format, &self.shape, self.config, offset);
        format!("{text:<width$}", width = state_bytes(self.format, &self.shape, self.config))
    }

    /// The bytes of the parts, in the order of [`headers`].
    fn part_bytes(&self) -> Vec<Bytes> {
        let mut bytes = vec![self.codes.clone()];
        match &self.nested {
            None => bytes.push(f32_bytes(&self.absmax)),
            Some(n) => bytes.extend([n.codes.clone(), f32_bytes(&n.absmax), f32_bytes(&n.map)]),
        }
        bytes.extend([f32_bytes(&self.book), self.quant_state().into_bytes().into()]);
        bytes
    }
}

/// The parts that a weight of this shape has in a file, without their bytes.
pub(crate) fn headers(format: &Format, shape: &[usize], config: FourBitConfig) -> Vec<Part> {
    let elements: usize = shape.iter().product();
    let scales = elements.div_ceil(config.block);
    let state = format!(".quant_state.bitsandbytes__{}", format.name.to_lowercase());
    let part = |suffix: &str, dtype, shape: &[usize]| Part::header(suffix, dtype, shape.to_vec());
    let mut parts = vec![part("", "U8", &[elements.div_ceil(2), 1])];
    match config.double {
        false => parts.push(part(".absmax", "F32", &[scales])),
        true => parts.extend([
            part(".absmax", "U8", &[scales]),
            part(".nested_absmax", "F32", &[scales.div_ceil(NESTED_BLOCK)]),
            part(".nested_quant_map", "F32", &[256]),
        ]),
    }
    let state = part(&state, "U8", &[state_bytes(format, shape, config)]);
    parts.extend([part(".quant_map", "F32", &[16]), state]);
    parts
}

/// JSON as bitsandbytes' `QuantState.as_dict` packs it.
fn state_text(format: &Format, shape: &[usize], config: FourBitConfig, offset: Option<f32>) -> String {
    let quant_type = format.name.to_lowercase();
    let (block, dtype) = (config.block, config.dtype.name());
    let mut state = json!({"quant_type": quant_type, "blocksize": block, "dtype": dtype, "shape": shape});
    if let Some(offset) = offset {
        state["nested_blocksize"] = NESTED_BLOCK.into();
        state["nested_dtype"] = "float32".into();
        state["nested_offset"] = f64::from(offset).into();
    }
    state.to_string()
}

/// Bytes of the text, whatever the offset turns out to be: spaces fill it up, so that a file's
/// header can be written before its weights have been seen.
fn state_bytes(format: &Format, shape: &[usize], config: FourBitConfig) -> usize {
    // "0.0" stands for at most "-1.2345678901234567e-308".
    let room = if config.double { 24 - 3 } else { 0 };
    state_text(format, shape, config, config.double.then_some(0.0)).len() + room
}

impl Storage for FourBit {
    fn layout(&self) -> Layout {
        let mut layout = layout_of(self.format, self.cols(), self.config.block);
        layout.book = Codebook::Sixteen(self.book);
        layout
    }

    fn parts(&self) -> Vec<Part> {
        let headers = headers(self.format, &self.shape, self.config).into_iter();
        headers.zip(self.part_bytes()).map(|(part, bytes)| part.with_bytes(bytes)).collect()
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let first = row * self.cols();
        for (i, out) in out.iter_mut().enumerate() {
            let i = first + i;
            *out = self.book[usize::from(self.code(i))] * self.absmax[i / self.config.block];
        }
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        let largest = self.book.iter().fold(0f32, |max, v| max.max(v.abs()));
        let finite = |scale: &f32| scale.is_finite();
        // A book may have values above one: of a huge scale the codes decide.
        let bounded = |scale: &f32| (scale * largest).is_finite();
        self.book.iter().all(finite)
            && rows.into_iter().all(|row| {
                let scales = self.row_scales(row).0;
                scales.iter().all(finite) && (scales.iter().all(bounded) || self.all_finite(row))
            })
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        let first = row * self.cols();
        for (words, start) in planes[0].as_chunks_mut::<4>().0.iter_mut().zip((0..self.cols()).step_by(32)) {
            let mut codes = [0; 32];
            for (code, i) in codes.iter_mut().zip(start..self.cols()) {
                *code = self.code(first + i);
            }
            *words = bits::pack_nibbles(&codes);
        }
        let (scales, phase) = self.row_scales(row);
        let aligned = self.cols().is_multiple_of(self.config.block);
        let to = if aligned { &mut planes[1][..] } else { &mut planes[1][1..] };
        to.iter_mut().zip(scales).for_each(|(to, scale)| *to = scale.to_bits());
        if !aligned {
            planes[1][0] = phase as u32;
        }
    }
}

/// What the shader is told of our own encoder's blocks.
pub(in crate::format) fn layout(table: &Table, cols: usize) -> Layout {
    let layout = layout_of(table.format, cols, FourBitConfig::default().block);
    Layout { book: Codebook::Sixteen(table.values), ..layout }
}

fn layout_of(format: &'static Format, cols: usize, block: usize) -> Layout {
    let phase = !cols.is_multiple_of(block);
    // Chunks start anywhere in a block, then.
    let split = !cols.is_multiple_of(32);
    // Where the row starts, the rest of a block before it, and one behind the last that a split
    // chunk may look at.
    let more_words = if phase { 3 } else { 0 };
    Layout {
        format,
        constants: vec![
            ("BLOCK_SHIFT", block.trailing_zeros()),
            ("PHASE", phase.into()),
            ("SPLIT", split.into()),
        ],
        planes: vec![
            Plane::new("qs", 4 * 256),
            Plane { name: "absmax", bits_per_256: 32 * 256 / block, more_words },
        ],
        book: Codebook::None,
        codes: if split { Codes::None } else { format.codes },
        ordered: false,
    }
}

impl Encoder for Table {
    fn fault(&self, recipe: &Recipe) -> Option<String> {
        match recipe.choice() {
            Choice::FourBit(config) => config.fault(),
            _ => recipe.foreign_choice(),
        }
    }

    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        Ok(encode(self, job, config(job.recipe)))
    }
}

/// What a recipe of NF4 or FP4 says.
pub(crate) fn config(recipe: &Recipe) -> FourBitConfig {
    match recipe.choice() {
        Choice::FourBit(config) => config,
        _ => FourBitConfig::default(),
    }
}

/// Encodes as bitsandbytes does.
fn encode(table: &Table, job: &Job, config: FourBitConfig) -> Arc<dyn Storage> {
    let (block, weights) = (config.block, job.weights);
    let mut codes = vec![0u8; weights.len().div_ceil(2)];
    let mut absmax = vec![0f32; weights.len().div_ceil(block)];
    let pairs = table.pairs();
    let run = |(weights, (codes, absmax)): (&[f32], (&mut [u8], &mut [f32]))| {
        let blocks = weights.chunks(block).zip(codes.chunks_mut(block / 2)).zip(absmax);
        blocks.for_each(|((weights, codes), absmax)| *absmax = encode_block(table, &pairs, weights, codes));
    };
    let into = codes.par_chunks_mut(RUN / 2).zip(absmax.par_chunks_mut(RUN / block));
    weights.par_chunks(RUN).zip(into).for_each(run);
    store(table, job.shape, config, codes, absmax)
}

/// A weight of these codes and scales, which are quantized here if `config` says so.
pub(crate) fn store(
    table: &Table,
    shape: [usize; 2],
    config: FourBitConfig,
    codes: Vec<u8>,
    absmax: Vec<f32>,
) -> Arc<dyn Storage> {
    let nested = config.double.then(|| nest(&absmax));
    Arc::new(FourBit {
        format: table.format,
        shape: shape.to_vec(),
        config,
        codes: codes.into(),
        absmax: nested.as_ref().map_or(absmax, Nested::decode),
        book: table.values,
        nested,
    })
}

/// Writes the codes of a block and returns its scale. A byte that is not full is filled with the
/// code of zero.
fn encode_block(table: &Table, pairs: &[u8; 256], weights: &[f32], codes: &mut [u8]) -> f32 {
    let absmax = largest(weights);
    // The reciprocal of a scale below 2^-128 is infinite; its weights go beyond the book by their
    // signs, and zeros stay zeros.
    let inverse = bits::inverse(absmax);
    let (inverse, again) = if inverse.is_finite() { (inverse, 1.0) } else { (f32::MAX, f32::MAX) };
    let (full, tail) = weights.as_chunks::<LANES>();
    let (to, to_tail) = codes.split_at_mut(full.len() * LANES / 2);
    for (weights, to) in full.iter().zip(to.as_chunks_mut().0) {
        *to = encode_lanes(table, pairs, weights, [inverse, again]);
    }
    if !tail.is_empty() {
        let mut weights = [0.0; LANES];
        weights[..tail.len()].copy_from_slice(tail);
        let codes = encode_lanes(table, pairs, &weights, [inverse, again]);
        to_tail.copy_from_slice(&codes[..to_tail.len()]);
    }
    absmax
}

/// The codes of several weights times factors. All pivots are compared for all of them, without a
/// branch.
#[inline(always)]
fn encode_lanes(
    table: &Table,
    pairs: &[u8; 256],
    weights: &[f32; LANES],
    [inverse, again]: [f32; 2],
) -> [u8; LANES / 2] {
    let x = weights.map(|w| w * inverse * again);
    let mut places = [0i32; LANES];
    for pivot in &table.pivots {
        places.iter_mut().zip(&x).for_each(|(place, x)| *place += i32::from(x > pivot));
    }
    let places = places.map(|place| place as u8);
    let mut codes = [0; LANES / 2];
    for (places, to) in places.as_chunks().0.iter().zip(codes.as_chunks_mut::<4>().0) {
        // Byte 2 i becomes the places of weights 2 i and 2 i + 1.
        let places = u64::from_le_bytes(*places);
        let places = places << 4 | places >> 8;
        *to = [0, 16, 32, 48].map(|shift| pairs[(places >> shift) as usize & 255]);
    }
    codes
}

/// Quantizes scales less their mean.
fn nest(scales: &[f32]) -> Nested {
    let map = dynamic_map();
    let offset = sum(scales) / scales.len().max(1) as f32;
    let rest: Vec<f32> = scales.iter().map(|s| s - offset).collect();
    let absmax: Vec<f32> = rest.chunks(NESTED_BLOCK).map(largest).collect();
    let code = |(i, s): (usize, &f32)| nearest(&map, s * bits::inverse(absmax[i / NESTED_BLOCK]));
    let codes: Vec<u8> = rest.iter().enumerate().map(code).collect();
    Nested { codes: codes.into(), map, absmax, block: NESTED_BLOCK, offset }
}

/// The sum in f32, in the order of PyTorch on x86 with one thread: the last bit of the mean is
/// stored, and every scale depends on it. Four times eight sums run side by side; after sixteen
/// numbers each is added to the next of four levels and begins anew. PyTorch cuts more than 32768
/// numbers in parts, one a thread, so its own last bit depends on the machine there.
fn sum(values: &[f32]) -> f32 {
    let (eights, tail) = values.as_chunks::<8>();
    let (rows, rest) = eights.as_chunks::<4>();
    let mut levels = [[[0f32; 8]; 4]; 4];
    for (i, row) in rows.iter().enumerate() {
        (0..4).for_each(|k| add(&mut levels[0][k], &row[k]));
        let full = |level: &usize| (i + 1).is_multiple_of(16usize.pow(*level as u32));
        for level in (1..4).take_while(full) {
            let below = std::mem::take(&mut levels[level - 1]);
            (0..4).for_each(|k| add(&mut levels[level][k], &below[k]));
        }
    }
    let [mut sums, above @ ..] = levels;
    above.iter().for_each(|level| (0..4).for_each(|k| add(&mut sums[k], &level[k])));
    let [mut first, others @ ..] = sums;
    rest.iter().chain(&others).for_each(|eight| add(&mut first, eight));
    tail.iter().chain(&first).fold(0.0, |sum, v| sum + v)
}

fn add(to: &mut [f32; 8], values: &[f32; 8]) {
    to.iter_mut().zip(values).for_each(|(to, v)| *to += v);
}

/// Index of the nearest value of a sorted map; half-way between two the lower.
fn nearest(map: &[f32], x: f32) -> u8 {
    let above = map.partition_point(|v| *v <= x).clamp(1, map.len() - 1);
    let (low, high) = (map[above - 1], map[above]);
    (above - usize::from((x - low).abs() <= (high - x).abs())) as u8
}

/// a · b + c, rounded once. `f32::mul_add` is the C library's `fmaf` where the target has no such
/// instruction, and that of mingw rounds more than once. Here f64 holds product and sum exactly:
/// all their bits lie between 1 and 2^-30.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

/// bitsandbytes' signed 8-bit map: decades of seven widths, each with twice as many steps as the
/// one below, zero and one (`functional.create_dynamic_map`).
pub(crate) fn dynamic_map() -> Vec<f32> {
    let mut map = vec![0.0, 1.0];
    for i in 0..7 {
        let steps = 1usize << i;
        let step = (1.0f32 - 0.1) / steps as f32;
        // As PyTorch's linspace: from both ends to the middle, rounded once.
        let edge = |j: usize| match 2 * j <= steps {
            true => fused(step, j as f32, 0.1),
            false => fused(step, -((steps - j) as f32), 1.0),
        };
        let decade = 10f64.powi(i - 6) as f32;
        map.extend((0..steps).map(|j| decade * ((edge(j) + edge(j + 1)) / 2.0)).flat_map(|v| [v, -v]));
    }
    map.sort_by(f32::total_cmp);
    map
}
