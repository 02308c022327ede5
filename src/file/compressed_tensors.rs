//! Checkpoints of compressed-tensors with integers. Packed: `weight_packed` I32 `[m, words]`, a stream of codes of 1 to 8 bits along k that may
//! cross words, counted from 2^(bits - 1); `weight_scale` `[m, groups]`; `weight_shape` I64 `[2]`; `weight_zero_point` I32, packed along m
//! in the same way; `weight_g_idx` I32 `[k]`. Plain: `weight` I8 with `weight_scale` and `weight_zero_point` I8.
//! `w[m, k] = scale[m, g] · (q[m, k] - zero[m, g])`.

use super::gptq::{columns, group_size, transposed};
use crate::error::Result;
use crate::file::module::{Checkpoint, Files, Module, Scheme};
use crate::file::tensors::TensorInfo;
use crate::format::uniform::{self, CodeRows, Columns, Uniform};
use crate::tensor::PackedTensor;
use serde_json::Value;
use std::sync::Arc;

/// A weight of integers, as far as headers and settings tell.
#[derive(Clone, Debug)]
struct Integers {
    packed: bool,
    bits: usize,
    rows: usize,
    cols: usize,
    run: usize,
    groups: usize,
    has_zeros: bool,
    has_order: bool,
}

/// All weights of integers in a checkpoint of compressed-tensors.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where parts are missing, or shapes disagree with each other or the settings.
pub(super) fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let ours = checkpoint.text("quant_method").as_deref() == Some("compressed-tensors");
    let mut modules = vec![];
    for codes in &checkpoint.table.list {
        let packed = codes.name.strip_suffix(".weight_packed").filter(|_| codes.dtype.name() == "I32");
        let plain = codes.name.strip_suffix(".weight").filter(|_| ours && codes.dtype.name() == "I8");
        let Some(name) = packed.or(plain) else { continue };
        modules.push(Parts::find(checkpoint, codes, name, packed.is_some())?.module(checkpoint, name)?);
    }
    Ok(modules)
}

struct Parts<'a> {
    codes: &'a TensorInfo,
    scale: &'a TensorInfo,
    shape: Option<&'a TensorInfo>,
    zeros: Option<&'a TensorInfo>,
    order: Option<&'a TensorInfo>,
    packed: bool,
}

impl<'a> Parts<'a> {
    fn find(checkpoint: &Checkpoint<'a>, codes: &'a TensorInfo, name: &str, packed: bool) -> Result<Self> {
        let files = checkpoint.files;
        let get = |suffix: &'static str| checkpoint.beside(name, suffix);
        let need = |suffix: &str| checkpoint.need(codes, name, suffix);
        let scale = need(".weight_scale")?;
        let shape = packed.then(|| need(".weight_shape")).transpose()?;
        files.typed(scale, &["F32", "F16", "BF16"])?;
        files.matrix(codes)?;
        Ok(Self {
            codes,
            scale,
            shape,
            zeros: get(".weight_zero_point"),
            order: get(".weight_g_idx"),
            packed,
        })
    }

    fn module(&self, checkpoint: &Checkpoint, name: &str) -> Result<TensorInfo> {
        let files = checkpoint.files;
        let (rows, cols) = self.shape(files)?;
        let bits = self.bits(checkpoint, cols)?;
        let groups = match &self.scale.shape[..] {
            [] => 1,
            [1] if rows != 1 => 1,
            [one] if *one == rows => 1,
            [some, groups] if *some == rows || *some == 1 => *groups,
            other => {
                let problem = format!("{rows} rows of scales belong here, its shape is {other:?}");
                return Err(files.malformed(self.scale, problem));
            }
        };
        let settings = self.settings(checkpoint);
        let run = match settings.and_then(|s| s["group_size"].as_i64()).filter(|size| *size > 0 && groups > 1)
        {
            Some(size) if cols.div_ceil(size as u64) == groups => size as u64,
            Some(size) => {
                let wanted = cols.div_ceil(size as u64);
                let problem =
                    format!("{cols} columns in groups of {size} need {wanted} scales a row, got {groups}");
                return Err(files.malformed(self.scale, problem));
            }
            None => group_size(checkpoint, self.scale, cols, groups)?,
        };
        self.check_zeros(files, (rows, groups), bits)?;
        if let Some(order) = self.order {
            files.typed(order, &["I32"])?;
            files.expect(order, &[cols], "numbers of groups")?;
        }
        let scheme = Integers {
            packed: self.packed,
            bits: bits as usize,
            rows: rows as usize,
            cols: cols as usize,
            run: run as usize,
            groups: groups as usize,
            has_zeros: self.zeros.is_some(),
            has_order: self.order.is_some(),
        };
        let format = uniform::grid_for(scheme.bits, self.zeros.is_none()).format;
        let parts = [Some(self.codes), Some(self.scale), self.zeros, self.order, self.shape];
        Ok(Module::info(
            checkpoint.table,
            format!("{name}.weight"),
            format,
            vec![rows, cols],
            &parts,
            Arc::new(scheme),
        ))
    }

    fn shape(&self, files: &Files) -> Result<(u64, u64)> {
        let Some(tensor) = self.shape else { return Ok((self.codes.shape[0], self.codes.shape[1])) };
        files.typed(tensor, &["I64", "I32"])?;
        files.expect(tensor, &[2], "dimensions")?;
        let bytes = files.bytes(tensor)?;
        let dims: Vec<i64> = match tensor.dtype.name() {
            "I64" => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        };
        match dims[..] {
            [rows, cols] if rows as u64 == self.codes.shape[0] && cols > 0 => Ok((rows as u64, cols as u64)),
            _ => {
                let problem = format!("it says {dims:?}, but codes have {} rows", self.codes.shape[0]);
                Err(files.malformed(tensor, problem))
            }
        }
    }

    /// The bits that fill the words of a row; where several would, those of the settings.
    fn bits(&self, checkpoint: &Checkpoint, cols: u64) -> Result<u64> {
        if !self.packed {
            return Ok(8);
        }
        let words = self.codes.shape[1];
        let fits = |bits: &u64| cols.checked_mul(*bits).is_some_and(|b| b.div_ceil(32) == words);
        let said = self.settings(checkpoint).and_then(|s| s["num_bits"].as_u64());
        let mut all = (1..=8).filter(fits);
        match said.filter(fits).or(all.next()) {
            Some(bits) => Ok(bits),
            None => {
                let problem =
                    format!("{words} words a row hold {cols} codes of no number of bits from 1 to 8");
                Err(checkpoint.files.malformed(self.codes, problem))
            }
        }
    }

    /// How weights were quantized, where the settings have one group of modules.
    fn settings<'s>(&self, checkpoint: &Checkpoint<'s>) -> Option<&'s Value> {
        let groups = checkpoint.settings?.get("config_groups")?.as_object()?;
        let mut all = groups.values().filter_map(|group| group.get("weights"));
        all.next().filter(|_| all.next().is_none())
    }

    fn check_zeros(&self, files: &Files, (rows, groups): (u64, u64), bits: u64) -> Result<()> {
        let Some(zeros) = self.zeros else { return Ok(()) };
        match self.packed {
            true => {
                files.typed(zeros, &["I32"])?;
                files.expect(zeros, &[(rows * bits).div_ceil(32), groups], "words of zeros")
            }
            false => {
                files.typed(zeros, &["I8"])?;
                files.count(zeros, rows * groups, "zeros")
            }
        }
    }
}

impl Scheme for Integers {
    fn description(&self) -> String {
        let kind = if self.has_zeros { "with zeros" } else { "symmetric" };
        let how = if self.packed { "packed" } else { "plain" };
        let order = if self.has_order { ", g_idx" } else { "" };
        format!("compressed-tensors {how}, {} bits, groups of {}, {kind}{order}", self.bits, self.run)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (rows, cols) = (self.rows, self.cols);
        let bytes = files.bytes(parts[0])?;
        let row_bytes = bytes.len() / rows.max(1);
        let codes = CodeRows { bytes, row_bytes, bits: self.bits, signed: !self.packed };
        let all = files.f32s(parts[1])?;
        let scales = match all.len() == rows * self.groups {
            true => all,
            // One scale, or one row of them, for all rows.
            false => all.iter().copied().cycle().take(rows * self.groups).collect(),
        };
        let mut more = parts[2..].iter();
        let zeros = match self.has_zeros.then(|| more.next()).flatten() {
            Some(zeros) => self.zeros(zeros, files)?,
            None => vec![],
        };
        let columns = match self.has_order.then(|| more.next()).flatten() {
            Some(order) => columns(order, self.run, self.groups, files)?,
            None => Columns::Runs(self.run),
        };
        let storage = Uniform {
            grid: uniform::grid_for(self.bits, !self.has_zeros),
            shape: [rows, cols],
            columns,
            codes: self.unsigned(codes),
            groups: self.groups,
            scales,
            zeros,
            absmax: None,
            halves: Default::default(),
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

impl Integers {
    /// Formats with zeros count codes from 0: bytes with signs are moved there, and so are their zeros.
    fn unsigned(&self, codes: CodeRows) -> CodeRows {
        if !codes.signed || !self.has_zeros {
            return codes;
        }
        let bytes = codes.bytes.iter().map(|q| q ^ 0x80).collect();
        CodeRows { bytes, signed: false, ..codes }
    }

    fn zeros(&self, tensor: &TensorInfo, files: &Files) -> Result<Vec<f32>> {
        let bytes = files.bytes(tensor)?;
        if !self.packed {
            return Ok(bytes.iter().map(|z| f32::from(*z as i8) + 128.0).collect());
        }
        // Packed along the rows, for each group: as columns of words.
        let words = files.words(tensor)?;
        let word_rows = words.len() / self.groups;
        let bytes =
            transposed(&words, word_rows, self.groups).into_iter().flat_map(u32::to_le_bytes).collect();
        let rows = CodeRows { bytes, row_bytes: 4 * word_rows, bits: self.bits, signed: false };
        let at = |row: usize| (0..self.groups).map(move |g| (row, g));
        Ok((0..self.rows).flat_map(at).map(|(row, g)| rows.code(rows.row(g), row) as f32).collect())
    }
}
