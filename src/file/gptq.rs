//! Checkpoints of GPTQ: `qweight` I32 `[k · bits / 32, m]` packed along k, `qzeros` I32 `[groups, m · bits / 32]` packed along m, `scales`
//! `[groups, m]`, and `g_idx` I32 `[k]`, the group of each column. `w[m, k] = scales[g, m] · (q[k, m] - zero[g, m])`, `g = g_idx[k]`.
//!
//! Version 1 stores zeros less one. A stored zero of all ones is then 2^bits, or 0 if the sum wraps: loaders disagree (exllama and vLLM
//! wrap, auto-gptq's own kernel does not). It wraps here, as in most. Symmetric checkpoints never have one.

use crate::error::Result;
use crate::file::module::{Checkpoint, Files, Module, Scheme};
use crate::file::names::shown;
use crate::file::tensors::TensorInfo;
use crate::format::uniform::{self, CodeRows, Columns, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

/// A weight of GPTQ, as far as headers and settings tell.
#[derive(Clone, Debug)]
struct Gptq {
    bits: usize,
    rows: usize,
    cols: usize,
    /// Columns of a group; of all but the last.
    run: usize,
    groups: usize,
    /// Zeros are stored as they are, not less one.
    version_2: bool,
    symmetric: bool,
    has_order: bool,
}

/// All weights of GPTQ in a checkpoint.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where parts are missing, or shapes disagree with each other or the settings.
pub(super) fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let method = checkpoint.text("quant_method");
    if method.as_deref().is_some_and(|m| m != "gptq") {
        return Ok(vec![]);
    }
    let mut modules = vec![];
    for codes in &checkpoint.table.list {
        let Some(name) = codes.name.strip_suffix(".qweight") else { continue };
        let parts = Parts::find(checkpoint, codes, name)?;
        // Without settings the shapes tell GPTQ from AWQ: here codes have a column for each scale.
        if method.is_none() && codes.shape.last() != parts.scales.shape.last() {
            continue;
        }
        modules.push(parts.module(checkpoint, name)?);
    }
    Ok(modules)
}

/// The tensors of one weight; those of AWQ, too.
pub(super) struct Parts<'a> {
    pub codes: &'a TensorInfo,
    pub zeros: &'a TensorInfo,
    pub scales: &'a TensorInfo,
    pub order: Option<&'a TensorInfo>,
}

impl<'a> Parts<'a> {
    pub fn find(checkpoint: &Checkpoint<'a>, codes: &'a TensorInfo, name: &str) -> Result<Self> {
        let files = checkpoint.files;
        let need = |suffix: &str| checkpoint.need(codes, name, suffix);
        let parts = Self {
            codes,
            zeros: need(".qzeros")?,
            scales: need(".scales")?,
            order: checkpoint.beside(name, ".g_idx"),
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

    fn module(&self, checkpoint: &Checkpoint, name: &str) -> Result<TensorInfo> {
        let files = checkpoint.files;
        let (words, rows) = (self.codes.shape[0], self.codes.shape[1]);
        let bits = self.bits(checkpoint)?;
        let cols = words * 32 / bits;
        if words * 32 % bits != 0 {
            let problem = format!("{words} words of {bits}-bit codes are no whole number of columns");
            return Err(files.malformed(self.codes, problem));
        }
        let groups = self.scales.shape[0];
        let run = group_size(checkpoint, self.scales, cols, groups)?;
        files.expect(self.scales, &[groups, rows], "scales")?;
        files.expect(self.zeros, &[groups, (rows * bits).div_ceil(32)], "words of zeros")?;
        if let Some(order) = self.order {
            files.typed(order, &["I32"])?;
            files.expect(order, &[cols], "numbers of groups")?;
        }
        let symmetric =
            !has_overrides(checkpoint) && checkpoint.setting("sym").and_then(|v| v.as_bool()) == Some(true);
        let [bits, rows_, cols_, run, groups] = [bits, rows, cols, run, groups].map(|v| v as usize);
        let scheme = Gptq {
            bits,
            rows: rows_,
            cols: cols_,
            run,
            groups,
            version_2: version_2(checkpoint, self.codes)?,
            symmetric,
            has_order: self.order.is_some(),
        };
        let format = uniform::grid_for(bits, symmetric).format;
        Ok(Module::info(
            checkpoint.table,
            format!("{name}.weight"),
            format,
            vec![rows, cols],
            &self.all(),
            Arc::new(scheme),
        ))
    }

    /// Those of the settings, or what the shapes leave.
    fn bits(&self, checkpoint: &Checkpoint) -> Result<u64> {
        let (rows, zeros) = (self.codes.shape[1], self.zeros.shape[1]);
        let said = checkpoint.setting("bits").filter(|_| !has_overrides(checkpoint));
        let bits = match (said, self.order) {
            (Some(bits), _) => bits.as_u64().unwrap_or(0),
            (None, Some(order)) => self.codes.shape[0] * 32 / order.elements().max(1),
            (None, None) => zeros * 32 / rows,
        };
        match bits {
            2 | 3 | 4 | 8 => Ok(bits),
            _ => {
                let problem = format!("GPTQ has codes of 2, 3, 4 or 8 bits, these are of {bits}");
                Err(checkpoint.files.malformed(self.codes, problem))
            }
        }
    }
}

/// True if some modules may have settings of their own, which GPTQModel lists by regular expressions under `dynamic`: their shapes tell.
fn has_overrides(checkpoint: &Checkpoint) -> bool {
    checkpoint.setting("dynamic").and_then(|v| v.as_object()).is_some_and(|all| !all.is_empty())
}

/// Columns of a group, which must make as many groups as there are scales.
pub(super) fn group_size(
    checkpoint: &Checkpoint,
    scales: &TensorInfo,
    cols: u64,
    groups: u64,
) -> Result<u64> {
    let said =
        checkpoint.setting("group_size").and_then(|v| v.as_i64()).filter(|_| !has_overrides(checkpoint));
    let size = match said {
        Some(size) if size > 0 => (size as u64).min(cols),
        Some(_) => cols,
        // Scales may be a matrix of no rows.
        None => cols.div_ceil(groups.max(1)),
    };
    match size > 0 && cols.div_ceil(size) == groups {
        true => Ok(size),
        false => {
            let wanted = cols.div_ceil(size.max(1));
            let problem =
                format!("{cols} columns in groups of {size} need {wanted} rows of scales, got {groups}");
            Err(checkpoint.files.malformed(scales, problem))
        }
    }
}

/// Version 1 unless the settings say otherwise; other layouts have other names.
fn version_2(checkpoint: &Checkpoint, codes: &TensorInfo) -> Result<bool> {
    let format = checkpoint.text("checkpoint_format").or(checkpoint.text("format"));
    match format.as_deref() {
        None | Some("gptq") => Ok(false),
        Some("gptq_v2") => Ok(true),
        Some(other) => {
            let problem = format!("its layout is `{}`; gptq and gptq_v2 are known", shown(other));
            Err(checkpoint.files.malformed(codes, problem))
        }
    }
}

impl Scheme for Gptq {
    fn description(&self) -> String {
        let version = if self.version_2 { 2 } else { 1 };
        let kind = if self.symmetric { "symmetric" } else { "with zeros" };
        let order = if self.has_order { ", g_idx" } else { "" };
        format!("GPTQ v{version}, {} bits, groups of {}, {kind}{order}", self.bits, self.run)
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
        let (one, mask) = (i32::from(!self.version_2), (1 << self.bits) - 1);
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
        let columns = match parts.get(3) {
            Some(order) => columns(order, self.run, self.groups, files)?,
            None => Columns::Runs(self.run),
        };
        let scales = transposed(&files.f32s(parts[2])?, self.groups, rows);
        let storage = Uniform {
            grid: uniform::grid_for(self.bits, self.symmetric),
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

/// Which of so many groups each column belongs to, by number; all -1 where there is no order.
pub(super) fn columns(order: &TensorInfo, run: usize, groups: usize, files: &Files) -> Result<Columns> {
    let numbers = files.words(order)?;
    if numbers.iter().all(|g| *g == u32::MAX) {
        return Ok(Columns::Runs(run));
    }
    match numbers.iter().position(|g| *g as usize >= groups) {
        None => Ok(Columns::of_numbers(numbers, run)),
        Some(at) => {
            let problem = format!("column {at} is of group {}, there are {groups}", numbers[at] as i32);
            Err(files.malformed(order, problem))
        }
    }
}

/// `[a, b]` to `[b, a]`, in blocks that a cache holds.
pub(super) fn transposed<T: Copy + Default + Send + Sync>(from: &[T], a: usize, b: usize) -> Vec<T> {
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
