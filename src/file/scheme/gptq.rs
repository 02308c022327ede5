//! Checkpoints of GPTQ: `qweight` I32 `[k · bits / 32, m]` packed along k, `qzeros` I32
//! `[groups, m · bits / 32]` packed along m, `scales` `[groups, m]`, and `g_idx` I32 `[k]`, the
//! group of each column. `w[m, k] = scales[g, m] · (q[k, m] - zero[g, m])`, `g = g_idx[k]`.
//!
//! Codes are a stream of bits, or planes (`gptq_p` of GPTQModel): each 32 of them take 4 words for
//! bits 0 to 3 (2 words for bits 0 and 1 of 2 and 3 bits), then 2 for bits 4 and 5, then 1 for an
//! odd bit at the top.
//!
//! Version 1 stores zeros less one, `gptq_v2` and `gptq_p` as they are. A stored zero of all ones
//! is then 2^bits, or 0 if the sum wraps: loaders disagree (exllama and vLLM wrap, auto-gptq's own
//! kernel does not). It wraps here, as in most. GPTQModel takes the ones from whole words, so that
//! a zero of 0 borrows from the next, and adds them to whole words. Symmetric checkpoints never
//! have one. Without settings the version is guessed to be 1, but not where all zeros are stored as
//! those of a symmetric version 2.
//!
//! A `g_idx` of zeros alone, or of -1 alone, is no order: groups are runs of columns, as exllamav2
//! has it.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::format::affine;
use crate::format::uniform::{self, CodeRows, Columns, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["gptq"], codes: &["qweight"], parts: &["g_idx", "qzeros"], modules };

/// A weight of GPTQ, as far as headers and settings tell.
#[derive(Clone, Debug)]
struct Gptq {
    bits: usize,
    rows: usize,
    cols: usize,
    /// Columns of a group; of all but the last. `g_idx` alone may say it.
    run: Option<usize>,
    groups: usize,
    packing: Packing,
    /// Nothing where there are no settings that could say so.
    zeros: Option<Zeros>,
    symmetric: bool,
    has_order: bool,
    /// What wrote it.
    tool: &'static str,
}

/// How zeros are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Zeros {
    /// Less one each.
    LessOne,
    /// Less one each, in words: GPTQModel's.
    WordsLessOnes,
    /// As they are.
    Plain,
}

/// How codes and zeros are put into words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Packing {
    /// One behind the other, the lowest bits first.
    Stream,
    /// Bits 0 to 3 of all, then bits 4 and 5, then the top one.
    Planes,
}

/// What settings say of a weight.
pub(crate) struct Told {
    /// Bits of a code; nothing where shapes must tell.
    pub bits: Option<i64>,
    pub sizes: Sizes,
    pub symmetric: bool,
    /// Groups are no runs of columns: there must be a `g_idx`.
    pub is_ordered: bool,
    pub packing: Packing,
    pub zeros: Option<Zeros>,
    pub tool: &'static str,
}

/// All weights of GPTQ in a checkpoint.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where parts are missing, or shapes disagree with
/// each other or the settings.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let method = checkpoint.settings.method();
    if method.is_some_and(|m| m != "gptq") {
        return Ok(vec![]);
    }
    let (mut modules, told) = (vec![], told(checkpoint));
    for (codes, stem) in checkpoint.named("qweight").filter(|(codes, _)| codes.dtype.name() != "I16") {
        let parts = Parts::find(checkpoint, codes, stem)?;
        // Without settings the shapes tell GPTQ from AWQ: here codes have a column for each scale.
        if method.is_none() && codes.shape.last() != parts.scales.shape.last() {
            continue;
        }
        modules.push(match &told {
            Ok(told) => parts.module(checkpoint, stem, told)?,
            Err(layout) => {
                let scheme = format!("GPTQ in the layout `{}`", shown(layout));
                checkpoint.unsupported(format!("{stem}weight"), &parts.all(), scheme)
            }
        });
    }
    Ok(modules)
}

/// The tensors of one weight; those of AWQ, too.
pub(crate) struct Parts<'a> {
    pub codes: &'a TensorInfo,
    pub zeros: &'a TensorInfo,
    pub scales: &'a TensorInfo,
    pub order: Option<&'a TensorInfo>,
}

impl<'a> Parts<'a> {
    /// `stem` is what stands before `qweight`: the module and a dot, or nothing.
    pub fn find(checkpoint: &Checkpoint<'a>, codes: &'a TensorInfo, stem: &str) -> Result<Self> {
        let files = checkpoint.files;
        let need = |name: &str| checkpoint.need(codes, stem, name);
        let parts = Self {
            codes,
            zeros: need("qzeros")?,
            scales: need("scales")?,
            order: checkpoint.beside(stem, "g_idx"),
        };
        files.typed(codes, &["I32"])?;
        files.typed(parts.zeros, &["I32"])?;
        files.typed(parts.scales, &["F32", "F16", "BF16"])?;
        for part in [codes, parts.zeros, parts.scales] {
            if part.shape.len() != 2 || part.shape.contains(&0) {
                let problem = format!("a matrix belongs here, its shape is {:?}", part.shape);
                return Err(files.malformed(part, problem));
            }
        }
        Ok(parts)
    }

    pub fn all(&self) -> [Option<&'a TensorInfo>; 4] {
        [Some(self.codes), Some(self.zeros), Some(self.scales), self.order]
    }

    /// The weight, by what the settings say of it.
    pub fn module(&self, checkpoint: &Checkpoint, stem: &str, told: &Told) -> Result<TensorInfo> {
        let files = checkpoint.files;
        let (words, rows) = (self.codes.shape[0], self.codes.shape[1]);
        let bits = match told.bits {
            Some(bits) if !known_bits(told.packing).contains(&bits) => {
                let scheme = format!("GPTQ of {bits} bits");
                return Ok(checkpoint.unsupported(format!("{stem}weight"), &self.all(), scheme));
            }
            Some(bits) => bits as u64,
            None => self.bits_of_shapes(files)?,
        };
        let cols = words * 32 / bits;
        if words * 32 % bits != 0 {
            let problem = format!("{words} words of {bits}-bit codes are no whole number of columns");
            return Err(files.malformed(self.codes, problem));
        }
        let split = told.packing == Packing::Planes && ![2, 4, 8].contains(&bits);
        if split && !(cols.is_multiple_of(32) && rows.is_multiple_of(32)) {
            let problem = format!("planes hold 32 codes each, {rows} rows or {cols} columns are no multiple");
            return Err(files.malformed(self.codes, problem));
        }
        let groups = self.scales.shape[0];
        if told.is_ordered && groups > 1 && self.order.is_none() {
            let problem = format!(
                "the settings say desc_act, so {groups} groups need a g_idx, which the checkpoint lacks"
            );
            return Err(files.malformed(self.codes, problem));
        }
        let run = told.sizes.run(files, self.scales, (cols, groups), self.order.is_some())?;
        files.expect(self.scales, &[groups, rows], "scales")?;
        files.expect(self.zeros, &[groups, (rows * bits).div_ceil(32)], "words of zeros")?;
        if let Some(order) = self.order {
            files.typed(order, &["I32"])?;
            files.expect(order, &[cols], "numbers of groups")?;
        }
        let shape = vec![rows, cols];
        let [bits, rows, cols, groups] = [bits, rows, cols, groups].map(|v| v as usize);
        let scheme = Gptq {
            bits,
            rows,
            cols,
            run: run.map(|run| run as usize),
            groups,
            packing: told.packing,
            zeros: told.zeros,
            symmetric: told.symmetric,
            has_order: self.order.is_some(),
            tool: told.tool,
        };
        let format = affine::grid_for(bits, told.symmetric).format;
        let name = format!("{stem}weight");
        Ok(Module::info(checkpoint.table, name, format, shape, &self.all(), Arc::new(scheme)))
    }

    /// The bits of a code that the shapes leave, where settings do not say them.
    fn bits_of_shapes(&self, files: &Files) -> Result<u64> {
        let (words, rows, zeros) = (self.codes.shape[0], self.codes.shape[1], self.zeros.shape[1]);
        let fits = |bits: &u64| match self.order {
            Some(order) => words * 32 == order.elements().saturating_mul(*bits),
            None => zeros * 32 == rows * bits,
        };
        [2, 3, 4, 8].into_iter().find(fits).ok_or_else(|| {
            let problem = format!(
                "no number of bits is said, and none of 2, 3, 4 and 8 makes {zeros} words of zeros for {rows} rows, or {words} words \
                 for the columns of its g_idx"
            );
            files.malformed(self.codes, problem)
        })
    }
}

/// Bits of a code that such a packing may have.
fn known_bits(packing: Packing) -> &'static [i64] {
    match packing {
        Packing::Stream => &[2, 3, 4, 8],
        Packing::Planes => &[2, 3, 4, 5, 6, 7, 8],
    }
}

/// What the settings of GPTQ say of all weights; nothing for a layout of another name, which comes
/// back.
fn told<'a>(checkpoint: &Checkpoint<'a>) -> Result<Told, &'a str> {
    let settings = checkpoint.settings;
    let others = !settings.overrides().is_empty();
    let overridden = settings.overrides().iter().filter_map(|o| o.group_size);
    let layout = settings.checkpoint_format().or(settings.format());
    let version_1 = if settings.is_by_gptqmodel() { Zeros::WordsLessOnes } else { Zeros::LessOne };
    let (packing, zeros) = match layout {
        None => (Packing::Stream, settings.found.then_some(version_1)),
        Some("gptq") => (Packing::Stream, Some(version_1)),
        Some("gptq_v2") => (Packing::Stream, Some(Zeros::Plain)),
        Some("gptq_p") => (Packing::Planes, Some(Zeros::Plain)),
        Some(other) => return Err(other),
    };
    Ok(Told {
        bits: settings.bits().filter(|_| !others),
        sizes: Sizes { said: settings.group_size().into_iter().chain(overridden).collect(), others },
        symmetric: !others && settings.sym == Some(true),
        is_ordered: settings.desc_act == Some(true),
        packing,
        zeros,
        tool: "GPTQ",
    })
}

/// What settings say of the columns that share a scale.
pub(crate) struct Sizes {
    /// -1 for a whole row.
    pub said: Vec<i64>,
    /// Modules may have others, which only their shapes tell.
    pub others: bool,
}

impl Sizes {
    /// Columns of a group: the one size said that makes as many groups as there are scales. Where
    /// none is said, only powers of two are believed that divide a row, and whole rows; nothing if
    /// there is a `g_idx`, which tells.
    pub fn run(
        &self,
        files: &Files,
        scales: &TensorInfo,
        (cols, groups): (u64, u64),
        has_order: bool,
    ) -> Result<Option<u64>> {
        let wrong = |problem: String| Err(files.malformed(scales, problem));
        if cols == 0 || groups == 0 {
            return wrong(format!("{cols} columns and {groups} groups belong to no weight"));
        }
        let mut sizes: Vec<u64> = self
            .said
            .iter()
            .map(|size| u64::try_from(*size).map_or(cols, |size| size.clamp(1, cols)))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        let fit: Vec<u64> = sizes.iter().copied().filter(|size| cols.div_ceil(*size) == groups).collect();
        match (&fit[..], &sizes[..]) {
            ([size], _) => return Ok(Some(*size)),
            ([], [size, ..]) if !self.others => {
                let wanted = cols.div_ceil(*size);
                return wrong(format!(
                    "{cols} columns in groups of {size} need {wanted} scales a row, got {groups}"
                ));
            }
            ([a, b, ..], _) => {
                return wrong(format!(
                    "{groups} scales a row may be of groups of {a} or of {b} columns, and the settings say both"
                ));
            }
            _ => {}
        }
        let size = cols / groups;
        match cols.is_multiple_of(groups) && (size.is_power_of_two() || groups == 1) {
            true => Ok(Some(size)),
            false if has_order => Ok(None),
            false => {
                wrong(format!("nothing says how many of {cols} columns share each of {groups} scales a row"))
            }
        }
    }
}

impl Scheme for Gptq {
    fn description(&self) -> String {
        let version = match (self.packing, self.zeros) {
            (Packing::Planes, _) => ", planes",
            (Packing::Stream, Some(Zeros::Plain)) if self.tool == "GPTQ" => " v2",
            (Packing::Stream, None) => " v1 (a guess: no settings say it)",
            (Packing::Stream, Some(_)) if self.tool == "GPTQ" => " v1",
            (Packing::Stream, _) => "",
        };
        let kind = if self.symmetric { "symmetric" } else { "with zeros" };
        let order = if self.has_order { ", g_idx" } else { "" };
        let groups = self.run.map_or(format!("{} groups", self.groups), |run| format!("groups of {run}"));
        format!("{}{version}, {} bits, {groups}, {kind}{order}", self.tool, self.bits)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (rows, cols) = (self.rows, self.cols);
        let words = files.words(parts[0])?;
        let row_words = words.len() / rows;
        let codes = self.code_rows(transposed(&words, row_words, rows), row_words);
        let (mut words, row_words) = (files.words(parts[1])?, parts[1].shape[1] as usize);
        if self.zeros == Some(Zeros::WordsLessOnes) {
            add_ones(&mut words, row_words, self.bits);
        }
        let stored = self.code_rows(words, row_words);
        self.check_version(&stored, parts[1], files)?;
        let one = i32::from(matches!(self.zeros, None | Some(Zeros::LessOne)));
        let mask = (1 << self.bits) - 1;
        let zero = |group: usize, row: usize| (stored.code(stored.row(group), row) + one) & mask;
        if self.symmetric {
            self.check_symmetric(&zero, parts[1], files)?;
        }
        let zeros = match self.symmetric {
            true => vec![],
            false => (0..rows)
                .flat_map(|row| (0..self.groups).map(move |g| (g, row)))
                .map(|(g, row)| zero(g, row) as f32)
                .collect(),
        };
        let columns = columns(parts.get(3).copied(), self.run, (cols, self.groups), files)?;
        let scales = transposed(&files.f32s(parts[2])?, self.groups, rows);
        let storage = Uniform {
            grid: affine::grid_for(self.bits, self.symmetric),
            shape: [rows, cols],
            columns,
            codes,
            groups: self.groups,
            scales,
            zeros,
            more: Default::default(),
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

/// Adds the ones that GPTQModel took from rows of words of zeros, each word by itself. Its ones for
/// the first and third of three words of 3 bits are in the order of no field.
fn add_ones(words: &mut [u32], row_words: usize, bits: usize) {
    let ones: [u32; 3] = match bits {
        2 => [0x5555_5555; 3],
        3 => [0x2492_4924, 0x9249_2492, 0x4924_9249],
        4 => [0x1111_1111; 3],
        _ => [0x0101_0101; 3],
    };
    for row in words.chunks_mut(row_words.max(1)) {
        row.iter_mut().zip(ones.iter().cycle()).for_each(|(word, ones)| *word = word.wrapping_add(*ones));
    }
}

/// The codes in planes of a row of words, one a byte.
fn from_planes(words: &[u32], bits: usize) -> Vec<u8> {
    let field = |words: &[u32], width: usize, i: usize| {
        let per_word = 32 / width;
        (words[i / per_word] >> (i % per_word * width)) as u8 & ((1 << width) - 1)
    };
    // Their widths, from the lowest bit on.
    let mut widths = vec![];
    while widths.iter().sum::<usize>() < bits {
        let left = bits - widths.iter().sum::<usize>();
        widths.push(if left >= 4 { 4 } else { left.min(2) });
    }
    let mut codes = vec![];
    for words in words.chunks_exact(bits) {
        let (mut start, mut shift) = (0, 0);
        let mut group = [0u8; 32];
        for &width in &widths {
            let plane = &words[start..];
            group.iter_mut().enumerate().for_each(|(i, code)| *code |= field(plane, width, i) << shift);
            start += width;
            shift += width;
        }
        codes.extend(group);
    }
    codes
}

impl Gptq {
    /// Rows of so many words as rows of codes.
    fn code_rows(&self, words: Vec<u32>, row_words: usize) -> CodeRows {
        if self.packing == Packing::Stream || [2, 4, 8].contains(&self.bits) {
            let bytes = words.into_iter().flat_map(u32::to_le_bytes).collect();
            return CodeRows { bytes, row_bytes: 4 * row_words, bits: self.bits, signed: false };
        }
        let rows: Vec<Vec<u8>> = words
            .par_chunks(row_words.max(1))
            .map(|words| uniform::join(self.bits, &from_planes(words, self.bits)))
            .collect();
        let row_bytes = rows.first().map_or(0, Vec::len);
        CodeRows { bytes: rows.concat().into(), row_bytes, bits: self.bits, signed: false }
    }

    /// Without settings, zeros that are all stored as 2^(bits - 1) may be those of a symmetric
    /// version 2, and one more in version 1.
    fn check_version(&self, stored: &CodeRows, zeros: &TensorInfo, files: &Files) -> Result<()> {
        let center = 1 << (self.bits - 1);
        let is_center =
            |group: usize| (0..self.rows).all(|row| stored.code(stored.row(group), row) == center);
        if self.zeros.is_some() || !(0..self.groups).all(is_center) {
            return Ok(());
        }
        let problem = format!(
            "all are stored as {center}: zeros of {center} in version 2 (gptq_v2), of {} in version 1 (gptq), and no settings say which",
            center + 1
        );
        Err(files.malformed(zeros, problem))
    }

    /// The settings may claim it and the zeros say otherwise.
    fn check_symmetric(
        &self,
        zero: &dyn Fn(usize, usize) -> i32,
        zeros: &TensorInfo,
        files: &Files,
    ) -> Result<()> {
        let center = 1 << (self.bits - 1);
        let all = (0..self.groups).flat_map(|g| (0..self.rows).map(move |row| (g, row)));
        match all.map(|(g, row)| zero(g, row)).find(|z| *z != center) {
            None => Ok(()),
            Some(other) => {
                let problem =
                    format!("the settings say symmetric, whose zeros are {center}, but one is {other}");
                Err(files.malformed(zeros, problem))
            }
        }
    }
}

/// Which of so many groups each column belongs to, by number; all -1, or all 0, where there is no
/// order.
pub(crate) fn columns(
    order: Option<&TensorInfo>,
    run: Option<usize>,
    (cols, groups): (usize, usize),
    files: &Files,
) -> Result<Columns> {
    let Some(order) = order else { return Ok(Columns::Runs(run.unwrap_or(cols))) };
    let numbers = files.words(order)?;
    let all = |number: u32| numbers.iter().all(|g| *g == number);
    if all(u32::MAX) || (all(0) && groups > 1) {
        let unsaid = || {
            let problem = format!(
                "all are {}, and nothing else says how many of {cols} columns share each of {groups} scales a row",
                numbers[0] as i32
            );
            files.malformed(order, problem)
        };
        return run.map(Columns::Runs).ok_or_else(unsaid);
    }
    match numbers.iter().position(|g| *g as usize >= groups) {
        None => {
            let run = run.unwrap_or_else(|| numbers.iter().filter(|g| **g == 0).count().max(1));
            Ok(Columns::of_numbers(numbers, run))
        }
        Some(at) => {
            let problem = format!("column {at} is of group {}, there are {groups}", numbers[at] as i32);
            Err(files.malformed(order, problem))
        }
    }
}

/// `[a, b]` to `[b, a]`, in blocks that a cache holds.
pub(crate) fn transposed<T: Copy + Default + Send + Sync>(from: &[T], a: usize, b: usize) -> Vec<T> {
    const BLOCK: usize = 32;
    let mut to = vec![T::default(); a * b];
    if a > 0 {
        to.par_chunks_mut(a * BLOCK).enumerate().for_each(|(block, to)| {
            let first = block * BLOCK;
            for i in 0..a {
                for (j, row) in to.chunks_mut(a).enumerate() {
                    row[i] = from[i * b + first + j];
                }
            }
        });
    }
    to
}
