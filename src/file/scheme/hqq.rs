//! HQQ: `W_q` with `scale` and `zero`, floats for each group, and beside them `shape`, `nbits`,
//! `group_size`, `axis` and others, as its state_dict has them. Weights lie as a matrix of one
//! group a row (axis 1), or of one group a column (axis 0), in reading order; `W_q` has its parts
//! in the bits of a word: the upper half of the rows in the high nibbles and the lower half in the
//! low ones, quarters, eighths, or ten parts of three bits in an I32. `w = (q - zero) * scale`.

use super::view::{Checkpoint, Convention};
use crate::error::{Error, Result};
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::format::affine;
use crate::format::uniform::{self, CodeRows, Columns, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention = Convention {
    methods: &["hqq"],
    codes: &["W_q"],
    parts: &["axis", "nbits", "quant_scale", "quant_zero", "zero"],
    modules,
};

/// What a state_dict has beside codes and scales.
const META: [&str; 16] = [
    ".shape",
    ".nbits",
    ".group_size",
    ".axis",
    ".packing",
    ".unpack_view_dtype",
    ".view_as_float",
    ".channel_wise",
    ".optimize",
    ".round_zero",
    ".compute_dtype",
    ".encoded_state_dict",
    ".stores_quant_config",
    ".offload_meta",
    ".quant_scale",
    ".quant_zero",
];

/// How codes are packed: bits of one, how many are in a word, and the bytes of a word.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Packing {
    bits: usize,
    parts: usize,
    word: usize,
}

const fn packing(bits: usize, parts: usize, word: usize) -> Packing {
    Packing { bits, parts, word }
}

const PACKINGS: [Packing; 5] =
    [packing(8, 1, 1), packing(4, 2, 1), packing(2, 4, 1), packing(1, 8, 1), packing(3, 10, 4)];

impl Packing {
    /// Rows of words for so many groups: those of three bits are filled up, the others must fit.
    fn rows(self, groups: u64) -> Option<u64> {
        let parts = self.parts as u64;
        (self.bits == 3 || groups.is_multiple_of(parts)).then(|| groups.div_ceil(parts))
    }

    /// Code `part` of a word, the first in its highest bits.
    fn code(self, word: &[u8], part: usize) -> u8 {
        let value = word.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        (value >> (self.bits * (self.parts - 1 - part))) as u8 & (0xff >> (8 - self.bits))
    }
}

/// A weight of HQQ, as far as headers, its numbers and settings tell.
#[derive(Clone, Debug)]
struct Hqq {
    packing: Packing,
    shape: (usize, usize),
    /// Weights of a group.
    group: usize,
    axis: Axis,
}

/// Along which groups run in the matrix that they lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    /// Along its columns: a group is every so many weights of the whole tensor.
    Down,
    /// Along its rows: a group is a run of weights.
    Along,
}

/// All weights of HQQ among the tensors of a checkpoint.
///
/// # Errors
/// [`Error::Malformed`] where parts are missing, or shapes disagree with each other or the
/// settings.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    checkpoint.ending(".W_q").map(|(codes, name)| Parts::find(checkpoint, codes, name)?.module()).collect()
}

/// The tensors of one weight.
struct Parts<'a> {
    checkpoint: &'a Checkpoint<'a>,
    name: &'a str,
    codes: &'a TensorInfo,
    scale: &'a TensorInfo,
    zero: &'a TensorInfo,
    /// Those of [`META`] that there are.
    meta: [Option<&'a TensorInfo>; META.len()],
}

impl<'a> Parts<'a> {
    fn find(checkpoint: &'a Checkpoint, codes: &'a TensorInfo, name: &'a str) -> Result<Self> {
        let need = |part: &str| checkpoint.need(codes, name, part);
        let meta = META.map(|end| checkpoint.beside(name, end));
        Ok(Self { checkpoint, name, codes, scale: need(".scale")?, zero: need(".zero")?, meta })
    }

    /// One of [`META`], without its dot.
    fn meta(&self, name: &str) -> Option<&'a TensorInfo> {
        META.iter().zip(self.meta).find(|(end, _)| &end[1..] == name)?.1
    }

    fn module(&self) -> Result<TensorInfo> {
        let files = self.checkpoint.files;
        for tensor in [self.scale, self.zero] {
            files.typed(tensor, &["F32", "F16", "BF16"])?;
        }
        files.expect(self.zero, &self.scale.shape, "zeros of groups")?;
        let (axis, all) = (self.axis()?, self.all());
        let unsupported = |what: &str| {
            let scheme = format!("HQQ with {what}");
            Ok(self.checkpoint.unsupported(format!("{}.weight", self.name), &all, scheme))
        };
        for flag in ["quant_scale", "quant_zero"].iter().filter_map(|name| self.meta(name)) {
            if flag.bytes > 0 && self.number(flag)? != 0.0 {
                return unsupported("scales or zeros that are quantized themselves");
            }
        }
        let Some(axis) = axis else { return unsupported("groups along an axis that is neither 0 nor 1") };
        let groups = self.scale.elements();
        let said = self.group_size()?;
        let (rows, cols) = self.shape(said)?;
        let weights = rows.checked_mul(cols).filter(|weights| *weights > 0 && groups > 0);
        let Some(group) = weights.filter(|w| w.is_multiple_of(groups)).map(|w| w / groups) else {
            let problem = format!("{rows} x {cols} weights do not make {groups} groups of one size");
            return Err(files.malformed(self.scale, problem));
        };
        let wanted = said.map(|said| said.unwrap_or(cols));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != group) {
            let problem = format!(
                "groups of {wanted} belong here, {rows} x {cols} weights and {groups} scales make {group}"
            );
            return Err(files.malformed(self.scale, problem));
        }
        if axis == Axis::Along && !cols.is_multiple_of(group) && !group.is_multiple_of(cols) {
            return unsupported(&format!("groups of {group} that end inside rows of {cols} columns"));
        }
        let packing = match axis {
            Axis::Along => {
                files.expect(self.scale, &[groups, 1], "scales of groups")?;
                self.packing(groups, group)?
            }
            Axis::Down => {
                files.expect(self.scale, &[1, groups], "scales of groups")?;
                self.packing(group, groups)?
            }
        };
        let scheme = Hqq { packing, shape: (rows as usize, cols as usize), group: group as usize, axis };
        let format = affine::grid_for(packing.bits, false).format;
        Ok(Module::info(
            self.checkpoint.table,
            format!("{}.weight", self.name),
            format,
            vec![rows, cols],
            &all,
            Arc::new(scheme),
        ))
    }

    /// Codes, scales and zeros, and what there is beside them.
    fn all(&self) -> Vec<Option<&'a TensorInfo>> {
        [Some(self.codes), Some(self.scale), Some(self.zero)].into_iter().chain(self.meta).collect()
    }

    /// The axis that is said, or that of the scales' shape; nothing for one that there is not.
    fn axis(&self) -> Result<Option<Axis>> {
        let is_row = self.scale.shape.first() == Some(&1) && self.scale.elements() > 1;
        Ok(match self.setting("axis")?.flatten() {
            Some(1.0) => Some(Axis::Along),
            Some(0.0) => Some(Axis::Down),
            Some(_) => None,
            None if is_row => Some(Axis::Down),
            None => Some(Axis::Along),
        })
    }

    /// A number beside the codes or of the settings: `Some(None)` where it is said that there is
    /// none.
    fn setting(&self, name: &str) -> Result<Option<Option<f64>>> {
        match self.meta(name) {
            Some(tensor) if tensor.bytes == 0 => Ok(Some(None)),
            Some(tensor) => self.number(tensor).map(|number| Some(Some(number))),
            None => Ok(self.checkpoint.settings.hqq(name)),
        }
    }

    /// The columns of a group, as [`Parts::setting`].
    fn group_size(&self) -> Result<Option<Option<u64>>> {
        let said = self.setting("group_size")?;
        match said.flatten().filter(|size| *size < 1.0 || size.fract() != 0.0 || size.is_nan()) {
            None => Ok(said.map(|said| said.map(|size| size as u64))),
            Some(size) => {
                let problem =
                    format!("groups of {size} weights are said, which is no whole number above zero");
                Err(self.checkpoint.files.malformed(self.scale, problem))
            }
        }
    }

    /// The one number of a tensor, of whatever type.
    fn number(&self, tensor: &TensorInfo) -> Result<f64> {
        Ok(self.numbers(tensor, 1)?[0])
    }

    fn numbers(&self, tensor: &TensorInfo, count: u64) -> Result<Vec<f64>> {
        let files = self.checkpoint.files;
        files.count(tensor, count, "numbers")?;
        let bytes = files.bytes(tensor)?;
        Ok(match tensor.dtype.name() {
            "I64" => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            "I32" => bytes.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
            "I16" => bytes.as_chunks().0.iter().map(|b| f64::from(i16::from_le_bytes(*b))).collect(),
            "U8" | "I8" | "BOOL" => bytes.iter().map(|b| f64::from(*b)).collect(),
            _ => files.f32s(tensor)?.into_iter().map(f64::from).collect(),
        })
    }

    /// Rows and columns: said, or known from the bias or because a row is one group.
    fn shape(&self, group: Option<Option<u64>>) -> Result<(u64, u64)> {
        let files = self.checkpoint.files;
        if let Some(shape) = self.meta("shape") {
            let dims = self.numbers(shape, 2)?;
            let fits = dims.iter().all(|dim| (1.0..=f64::from(u32::MAX)).contains(dim) && dim.fract() == 0.0);
            let problem = || format!("it says {dims:?}, which is no shape of a matrix");
            return if fits {
                Ok((dims[0] as u64, dims[1] as u64))
            } else {
                Err(files.malformed(shape, problem()))
            };
        }
        let groups = self.scale.elements();
        let weights = group.flatten().and_then(|group| groups.checked_mul(group));
        let rows = match (self.checkpoint.beside(self.name, ".bias"), group) {
            (Some(bias), _) => Some(bias.elements()),
            (None, Some(None)) => Some(groups),
            _ => None,
        };
        match (rows, weights) {
            (Some(rows), Some(weights)) if rows > 0 && weights.is_multiple_of(rows) => {
                Ok((rows, weights / rows))
            }
            // A row is a group: `W_q` is as wide.
            (Some(rows), None) if self.codes.shape.len() == 2 && group == Some(None) => {
                Ok((rows, self.codes.shape[1]))
            }
            _ => {
                let problem = format!(
                    "the checkpoint lacks `{}.shape`, and nothing else says how many columns there are",
                    shown(self.name)
                );
                Err(files.malformed(self.codes, problem))
            }
        }
    }

    /// The packing that makes as many bytes of a matrix of so many rows and columns, which must be
    /// that of the settings.
    fn packing(&self, rows: u64, cols: u64) -> Result<Packing> {
        let files = self.checkpoint.files;
        files.typed(self.codes, &["U8", "I32", "F32", "F16", "BF16"])?;
        let bytes = |p: &Packing| p.rows(rows)?.checked_mul(cols)?.checked_mul(p.word as u64);
        let typed = |p: &&Packing| match self.codes.dtype.name() {
            "U8" => p.word == 1,
            "I32" => p.word == 4,
            // Bytes may be viewed as floats.
            _ => true,
        };
        let said = self.setting("nbits")?.flatten();
        // 1.58 bits are stored as two; five to seven take eight.
        let stored = said.map(f64::ceil);
        let wanted = stored.map(|bits| if (5.0..8.0).contains(&bits) { 8.0 } else { bits });
        let found = PACKINGS.iter().filter(typed).find(|p| bytes(p) == Some(self.codes.bytes));
        let found = found.filter(|p| wanted.is_none_or(|bits| bits == p.bits as f64));
        let Some(found) = found else {
            let known = wanted.and_then(|bits| PACKINGS.iter().find(|p| p.bits as f64 == bits));
            let takes = match (known.and_then(bytes), said) {
                (Some(bytes), Some(bits)) => format!("of {bits} bits take {bytes} bytes"),
                (None, Some(bits)) => format!("of {bits} bits take no whole number of bytes"),
                (_, None) => "of 1 to 4 or 8 bits take other numbers of bytes".into(),
            };
            let (got, dtype) = (self.codes.bytes, self.codes.dtype);
            let problem = format!("{rows} rows of {cols} codes {takes}, it has {got} of {dtype}");
            return Err(files.malformed(self.codes, problem));
        };
        if ["U8", "I32"].contains(&self.codes.dtype.name()) {
            files.expect(self.codes, &[found.rows(rows).unwrap_or(0), cols], "words of codes")?;
        }
        Ok(*found)
    }
}

impl Scheme for Hqq {
    fn description(&self) -> String {
        let axis = if self.axis == Axis::Down { " along axis 0" } else { "" };
        format!("HQQ, {} bits, groups of {}{axis}, zeros that are floats", self.packing.bits, self.group)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let [codes, scale, zero, ..] = parts else {
            return Err(Error::Argument(format!("`{}` has lost its parts", shown(name))));
        };
        let codes = files.bytes(codes)?;
        let (rows, cols) = self.shape;
        let (scales, zeros) = (files.f32s(scale)?, files.f32s(zero)?);
        // A group may be several rows.
        let run = self.group.min(cols);
        let of_rows = |values: Vec<f32>| -> Vec<f32> {
            values.iter().flat_map(|v| std::iter::repeat_n(*v, self.group / run)).collect()
        };
        let (columns, groups, scales, zeros) = match self.axis {
            Axis::Along => (Columns::Runs(run), cols / run, of_rows(scales), of_rows(zeros)),
            Axis::Down => (Columns::Down { cells: scales.len() }, scales.len(), scales, zeros),
        };
        let bits = self.packing.bits;
        let dense: Vec<Vec<u8>> =
            (0..rows).into_par_iter().map(|row| uniform::join(bits, &self.row(&codes, row))).collect();
        let storage = Uniform {
            grid: affine::grid_for(bits, false),
            shape: [rows, cols],
            columns,
            codes: CodeRows::dense(dense.concat(), bits, cols, false),
            groups,
            scales,
            zeros,
            more: Default::default(),
        };
        PackedTensor::from_storage(name, self.shape, Arc::new(storage))
    }
}

impl Hqq {
    /// The codes of a row of weights.
    fn row(&self, words: &[u8], row: usize) -> Vec<u8> {
        let ((rows, cols), Packing { parts, word, .. }) = (self.shape, self.packing);
        // The matrix that groups lie in.
        let width = match self.axis {
            Axis::Along => self.group,
            Axis::Down => rows * cols / self.group,
        };
        // Rows of words, each of which holds parts of rows that far apart.
        let step = (rows * cols / width).div_ceil(parts);
        let code = |at: usize| {
            let (line, column) = (at / width, at % width);
            let first = ((line % step) * width + column) * word;
            self.packing.code(&words[first..first + word], line / step)
        };
        (row * cols..(row + 1) * cols).map(code).collect()
    }
}
