//! Checkpoints of GPTQ: `qweight` I32 `[k · bits / 32, m]` packed along k, `qzeros` I32
//! `[groups, m · bits / 32]` packed along m, `scales` `[groups, m]`, and `g_idx` I32 `[k]`, the
//! group of each column. `w[m, k] = scales[g, m] · (q[k, m] - zero[g, m])`, `g = g_idx[k]`.
//!
//! Version 1 stores zeros less one. A stored zero of all ones is then 2^bits, or 0 if the sum
//! wraps: loaders disagree (exllama and vLLM wrap, auto-gptq's own kernel does not). It wraps here,
//! as in most. Symmetric checkpoints never have one. Without settings the version is guessed to be
//! 1, but not where all zeros are stored as those of a symmetric version 2.
//!
//! A `g_idx` of zeros alone, or of -1 alone, is no order: groups are runs of columns, as exllamav2
//! has it.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::format::affine;
use crate::format::uniform::{CodeRows, Columns, Uniform};
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
    /// Zeros are stored as they are, not less one; nothing where there are no settings that could
    /// say so.
    version_2: Option<bool>,
    symmetric: bool,
    has_order: bool,
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
    let mut modules = vec![];
    for (codes, stem) in checkpoint.named("qweight") {
        let parts = Parts::find(checkpoint, codes, stem)?;
        // Without settings the shapes tell GPTQ from AWQ: here codes have a column for each scale.
        if method.is_none() && codes.shape.last() != parts.scales.shape.last() {
            continue;
        }
        modules.push(parts.module(checkpoint, stem)?);
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

    fn module(&self, checkpoint: &Checkpoint, stem: &str) -> Result<TensorInfo> {
        let files = checkpoint.files;
        let (words, rows) = (self.codes.shape[0], self.codes.shape[1]);
        let bits = self.bits(checkpoint)?;
        let cols = words * 32 / bits;
        if words * 32 % bits != 0 {
            let problem = format!("{words} words of {bits}-bit codes are no whole number of columns");
            return Err(files.malformed(self.codes, problem));
        }
        let groups = self.scales.shape[0];
        let run = self.run(checkpoint, cols, groups)?;
        files.expect(self.scales, &[groups, rows], "scales")?;
        files.expect(self.zeros, &[groups, (rows * bits).div_ceil(32)], "words of zeros")?;
        if let Some(order) = self.order {
            files.typed(order, &["I32"])?;
            files.expect(order, &[cols], "numbers of groups")?;
        }
        let symmetric = checkpoint.settings.overrides().is_empty() && checkpoint.settings.sym == Some(true);
        let [bits, rows_, cols_, groups] = [bits, rows, cols, groups].map(|v| v as usize);
        let scheme = Gptq {
            bits,
            rows: rows_,
            cols: cols_,
            run: run.map(|run| run as usize),
            groups,
            version_2: version_2(checkpoint, self.codes)?,
            symmetric,
            has_order: self.order.is_some(),
        };
        let format = affine::grid_for(bits, symmetric).format;
        Ok(Module::info(
            checkpoint.table,
            format!("{stem}weight"),
            format,
            vec![rows, cols],
            &self.all(),
            Arc::new(scheme),
        ))
    }

    fn run(&self, checkpoint: &Checkpoint, cols: u64, groups: u64) -> Result<Option<u64>> {
        let (files, settings) = (checkpoint.files, checkpoint.settings);
        if settings.desc_act == Some(true) && groups > 1 && self.order.is_none() {
            let problem = format!(
                "the settings say desc_act, so {groups} groups need a g_idx, which the checkpoint lacks"
            );
            return Err(files.malformed(self.codes, problem));
        }
        let sizes = Sizes {
            said: settings
                .group_size()
                .into_iter()
                .chain(settings.overrides().iter().filter_map(|o| o.group_size))
                .collect(),
            others: !settings.overrides().is_empty(),
        };
        sizes.run(files, self.scales, (cols, groups), self.order.is_some())
    }

    /// Those of the settings, or what the shapes leave: of single modules they may be others.
    fn bits(&self, checkpoint: &Checkpoint) -> Result<u64> {
        let settings = checkpoint.settings;
        let said = settings.bits().filter(|_| settings.overrides().is_empty());
        let wrong = |problem: String| Err(checkpoint.files.malformed(self.codes, problem));
        match said {
            Some(bits @ (2 | 3 | 4 | 8)) => return Ok(bits as u64),
            Some(bits) => return wrong(format!("GPTQ has codes of 2, 3, 4 or 8 bits, these are of {bits}")),
            None => {}
        }
        let (words, rows, zeros) = (self.codes.shape[0], self.codes.shape[1], self.zeros.shape[1]);
        let fits = |bits: &u64| match self.order {
            Some(order) => words * 32 == order.elements().saturating_mul(*bits),
            None => zeros * 32 == rows * bits,
        };
        match [2, 3, 4, 8].into_iter().find(fits) {
            Some(bits) => Ok(bits),
            None => wrong(format!(
                "no number of bits is said, and none of 2, 3, 4 and 8 makes {zeros} words of zeros for {rows} rows, or {words} words \
                 for the columns of its g_idx"
            )),
        }
    }
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

/// Version 1 unless the settings say otherwise; other layouts have other names.
fn version_2(checkpoint: &Checkpoint, codes: &TensorInfo) -> Result<Option<bool>> {
    let settings = checkpoint.settings;
    match settings.checkpoint_format().or(settings.format()) {
        None => Ok(settings.found.then_some(false)),
        Some("gptq") => Ok(Some(false)),
        Some("gptq_v2") => Ok(Some(true)),
        Some(other) => {
            let problem = format!("its layout is `{}`; gptq and gptq_v2 are known", shown(other));
            Err(checkpoint.files.malformed(codes, problem))
        }
    }
}

impl Scheme for Gptq {
    fn description(&self) -> String {
        let version = if self.version_2 == Some(true) { 2 } else { 1 };
        let kind = if self.symmetric { "symmetric" } else { "with zeros" };
        let order = if self.has_order { ", g_idx" } else { "" };
        let groups = self.run.map_or(format!("{} groups", self.groups), |run| format!("groups of {run}"));
        format!("GPTQ v{version}, {} bits, {groups}, {kind}{order}", self.bits)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (rows, cols) = (self.rows, self.cols);
        let words = files.words(parts[0])?;
        let row_words = words.len() / rows;
        let bytes = transposed(&words, row_words, rows).into_iter().flat_map(u32::to_le_bytes).collect();
        let codes = CodeRows { bytes, row_bytes: 4 * row_words, bits: self.bits, signed: false };
        let stored = CodeRows {
            bytes: files.bytes(parts[1])?,
            row_bytes: parts[1].shape[1] as usize * 4,
            bits: self.bits,
            signed: false,
        };
        self.check_version(&stored, parts[1], files)?;
        let (one, mask) = (i32::from(self.version_2 != Some(true)), (1 << self.bits) - 1);
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
            absmax: None,
            halves: Default::default(),
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

impl Gptq {
    /// Without settings, zeros that are all stored as 2^(bits - 1) may be those of a symmetric
    /// version 2, and one more in version 1.
    fn check_version(&self, stored: &CodeRows, zeros: &TensorInfo, files: &Files) -> Result<()> {
        let center = 1 << (self.bits - 1);
        let is_center =
            |group: usize| (0..self.rows).all(|row| stored.code(stored.row(group), row) == center);
        if self.version_2.is_some() || !(0..self.groups).all(is_center) {
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
