//! Checkpoints of compressed-tensors with integers. Packed: `weight_packed` I32 `[m, words]`, a
//! stream of codes of 1 to 8 bits along k that may cross words, counted from 2^(bits - 1);
//! `weight_scale` `[m, groups]`; `weight_shape` I64 `[2]`; `weight_zero_point` I32, packed along m
//! in the same way; `weight_g_idx` I32 `[k]`. Plain: `weight` I8 with `weight_scale` and
//! `weight_zero_point` I8.
//! `w[m, k] = scale[m, g] · (q[m, k] - zero[m, g])`.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::scheme::gptq::{Sizes, columns, transposed};
use crate::file::scheme::settings::Way;
use crate::format::affine;
use crate::format::uniform::{CodeRows, Uniform};
use crate::tensor::PackedTensor;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention = Convention {
    methods: &["compressed-tensors"],
    codes: &["weight_packed"],
    parts: &["weight_g_idx", "weight_zero_point"],
    modules,
};

/// A weight of integers, as far as headers and settings tell.
#[derive(Clone, Debug)]
struct Integers {
    packed: bool,
    bits: usize,
    rows: usize,
    cols: usize,
    /// Columns of a group; `g_idx` alone may say it.
    run: Option<usize>,
    groups: usize,
    has_zeros: bool,
    has_order: bool,
}

/// All weights of integers in a checkpoint of compressed-tensors.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where parts are missing, or shapes disagree with
/// each other or the settings.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let ours = checkpoint.settings.is_of(&["compressed-tensors"]);
    let packed = checkpoint.ending(".weight_packed").filter(|(t, _)| t.dtype.name() == "I32");
    let plain = checkpoint.ending(".weight").filter(|(t, _)| ours && t.dtype.name() == "I8");
    let module = |codes, name, packed| Parts::find(checkpoint, codes, name, packed)?.module(checkpoint, name);
    let packed = packed.map(|(codes, name)| module(codes, name, true));
    packed.chain(plain.map(|(codes, name)| module(codes, name, false))).collect()
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
        let groups = self.groups(files, rows)?;
        let run = self.run(checkpoint, bits, (cols, groups))?;
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
            run: run.map(|run| run as usize),
            groups: groups as usize,
            has_zeros: self.zeros.is_some(),
            has_order: self.order.is_some(),
        };
        let format = affine::grid_for(scheme.bits, self.zeros.is_none()).format;
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

    fn groups(&self, files: &Files, rows: u64) -> Result<u64> {
        match &self.scale.shape[..] {
            [] => Ok(1),
            [1] if rows != 1 => Ok(1),
            [one] if *one == rows => Ok(1),
            [some, groups] if *some == rows || *some == 1 => Ok(*groups),
            other => {
                let problem = format!("{rows} rows of scales belong here, its shape is {other:?}");
                Err(files.malformed(self.scale, problem))
            }
        }
    }

    /// Columns of a group. What the settings say of codes of so many bits must be true of these, in
    /// one way or another.
    fn run(&self, checkpoint: &Checkpoint, bits: u64, shape: (u64, u64)) -> Result<Option<u64>> {
        let files = checkpoint.files;
        let ours = |way: &&Way| !self.packed || way.num_bits.is_none_or(|said| said == bits);
        let ways: Vec<&Way> = checkpoint.settings.ways().filter(ours).collect();
        let said: Vec<i64> = ways.iter().filter_map(|way| way.group()).collect();
        let sizes = Sizes { others: said.len() < ways.len(), said };
        let run = sizes.run(files, self.scale, shape, self.order.is_some())?;
        let all = |says: fn(&Way) -> bool| !ways.is_empty() && ways.iter().all(|way| says(way));
        if self.zeros.is_none() && all(|way| way.symmetric == Some(false)) {
            let problem =
                "the settings say symmetric false, but the checkpoint lacks its `weight_zero_point`";
            return Err(files.malformed(self.codes, problem));
        }
        if self.order.is_none() && shape.1 > 1 && all(Way::is_ordered) {
            let problem = format!(
                "the settings say actorder, so {} groups need a `weight_g_idx`, which the checkpoint lacks",
                shape.1
            );
            return Err(files.malformed(self.codes, problem));
        }
        Ok(run)
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
            [rows, cols] if u64::try_from(rows) == Ok(self.codes.shape[0]) && cols > 0 => {
                Ok((rows as u64, cols as u64))
            }
            [rows, _] if u64::try_from(rows) == Ok(self.codes.shape[0]) => {
                Err(files.malformed(tensor, format!("it says {dims:?}: the columns should be 1 or more")))
            }
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
        let mut said: Vec<u64> = checkpoint.settings.ways().filter_map(|way| way.num_bits).collect();
        said.sort_unstable();
        said.dedup();
        let known = |bits: &u64| said.is_empty() || said.contains(bits);
        let (all, kept): (Vec<u64>, Vec<u64>) =
            ((1..=8).filter(fits).collect(), (1..=8).filter(fits).filter(known).collect());
        let problem = match (&kept[..], &all[..]) {
            ([bits], _) => return Ok(*bits),
            ([], []) => format!("{words} words a row hold {cols} codes of no number of bits from 1 to 8"),
            ([], bits) => {
                format!("{words} words a row hold {cols} codes of {bits:?} bits, the settings say {said:?}")
            }
            (bits, _) => format!(
                "{words} words a row may hold {cols} codes of any of {bits:?} bits, and nothing says of which"
            ),
        };
        Err(checkpoint.files.malformed(self.codes, problem))
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
                // As the scales, one of which may be for all rows.
                match zeros.shape == self.scale.shape {
                    true => Ok(()),
                    false => files.expect(zeros, &[rows, groups], "zeros"),
                }
            }
        }
    }
}

impl Scheme for Integers {
    fn description(&self) -> String {
        let kind = if self.has_zeros { "with zeros" } else { "symmetric" };
        let how = if self.packed { "packed" } else { "plain" };
        let order = if self.has_order { ", g_idx" } else { "" };
        let groups = self.run.map_or(format!("{} groups", self.groups), |run| format!("groups of {run}"));
        format!("compressed-tensors {how}, {} bits, {groups}, {kind}{order}", self.bits)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (rows, cols) = (self.rows, self.cols);
        let bytes = files.bytes(parts[0])?;
        let row_bytes = bytes.len() / rows.max(1);
        let codes = CodeRows { bytes, row_bytes, bits: self.bits, signed: !self.packed };
        let scales = self.for_all_rows(files.f32s(parts[1])?);
        let mut more = parts[2..].iter();
        let zeros = match self.has_zeros.then(|| more.next()).flatten() {
            Some(zeros) => self.zeros(zeros, files)?,
            None => vec![],
        };
        let order = self.has_order.then(|| more.next()).flatten();
        let columns = columns(order.copied(), self.run, (cols, self.groups), files)?;
        let storage = Uniform {
            grid: affine::grid_for(self.bits, !self.has_zeros),
            shape: [rows, cols],
            columns,
            codes: self.unsigned(codes),
            groups: self.groups,
            scales,
            zeros,
            more: Default::default(),
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

impl Integers {
    /// One scale, or one row of them, for all rows.
    fn for_all_rows(&self, values: Vec<f32>) -> Vec<f32> {
        match values.len() == self.rows * self.groups {
            true => values,
            false => values.iter().copied().cycle().take(self.rows * self.groups).collect(),
        }
    }

    /// Formats with zeros count codes from 0: bytes with signs are moved there, and so are their
    /// zeros.
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
            return Ok(self.for_all_rows(bytes.iter().map(|z| f32::from(*z as i8) + 128.0).collect()));
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
