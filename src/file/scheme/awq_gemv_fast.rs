//! Checkpoints of AWQ in the packing "gemv_fast", which llm-awq calls version 2: `qweight` I16
//! `[m / 4, k]`, four rows and 64 columns interleaved; `scales` and `qzeros` (llm-awq:
//! `scaled_zeros`) `[words, m]` in floats, filled up with zeros, where `qzeros` is
//! `-zero · scale`. `w[m, k] = q[m, k] · scales[g, m] + qzeros[g, m]`, `g = k / group`.
//!
//! The code of row n and column k is in the word of row `n / 4` and column
//! `64 · (k / 64) + 16 · (n mod 4) + 8 · (k / 32 mod 2) + k mod 8`, nibble `k / 8 mod 4`.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::{Files, Module, Scheme, TensorInfo};
use crate::file::scheme::gptq::transposed;
use crate::format::affine;
use crate::format::uniform::{CodeRows, Columns, More, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["awq"], codes: &["qweight"], parts: &["qzeros", "scaled_zeros"], modules };

/// A weight, as far as headers and settings tell.
#[derive(Debug)]
struct GemvFast {
    rows: usize,
    cols: usize,
    group: usize,
}

fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let method = checkpoint.settings.method();
    if method.is_some_and(|method| method != "awq") {
        return Ok(vec![]);
    }
    let codes = checkpoint.named("qweight").filter(|(codes, _)| codes.dtype.name() == "I16");
    codes.map(|(codes, stem)| module(checkpoint, codes, stem)).collect()
}

fn module(checkpoint: &Checkpoint, codes: &TensorInfo, stem: &str) -> Result<TensorInfo> {
    let files = checkpoint.files;
    let scales = checkpoint.need(codes, stem, "scales")?;
    let zeros = match checkpoint.beside(stem, "scaled_zeros") {
        Some(zeros) => zeros,
        None => checkpoint.need(codes, stem, "qzeros")?,
    };
    let [quarter, cols] = files.matrix(codes)?;
    let rows = 4 * quarter;
    if rows == 0 || cols == 0 || !cols.is_multiple_of(64) {
        let problem =
            format!("{cols} columns are no multiple of 64, or none, its shape is {:?}", codes.shape);
        return Err(files.malformed(codes, problem));
    }
    let group = match checkpoint.settings.group_size() {
        None => 128,
        Some(size) => u64::try_from(size).map_or(cols, |size| size.clamp(1, cols)),
    };
    for tensor in [scales, zeros] {
        files.typed(tensor, &["F32", "F16", "BF16"])?;
        let [words, its_rows] = files.matrix(tensor)?;
        let groups = cols.div_ceil(group);
        if its_rows != rows || words < groups || words > groups.next_multiple_of(32) {
            let problem = format!(
                "{groups} groups of {group} columns, filled up, by {rows} rows belong here, its shape is {:?}",
                tensor.shape
            );
            return Err(files.malformed(tensor, problem));
        }
    }
    let scheme = GemvFast { rows: rows as usize, cols: cols as usize, group: group as usize };
    let parts = [Some(codes), Some(zeros), Some(scales)];
    let format = affine::grid_for(4, false).format;
    let (name, shape) = (format!("{stem}weight"), vec![rows, cols]);
    Ok(Module::info(checkpoint.table, name, format, shape, &parts, Arc::new(scheme)))
}

impl Scheme for GemvFast {
    fn description(&self) -> String {
        format!("AWQ gemv_fast, 4 bits, groups of {}, with offsets", self.group)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let &Self { rows, cols, group } = self;
        let bytes = files.bytes(parts[0])?;
        let (words, groups) = (bytes.as_chunks::<2>().0, cols.div_ceil(group));
        let row_bytes = cols / 2;
        let mut codes = vec![0u8; rows * row_bytes];
        codes.par_chunks_mut(row_bytes).enumerate().for_each(|(row, codes)| {
            let words = &words[row / 4 * cols..(row / 4 + 1) * cols];
            for k in 0..cols {
                let word = 64 * (k / 64) + 16 * (row % 4) + 8 * (k / 32 % 2) + k % 8;
                let nibble = (u16::from_le_bytes(words[word]) >> (4 * (k / 8 % 4))) as u8 & 15;
                codes[k / 2] |= nibble << (k % 2 * 4);
            }
        });
        let of_groups = |part: &TensorInfo| -> Result<Vec<f32>> {
            Ok(transposed(&files.f32s(part)?[..groups * rows], groups, rows))
        };
        let storage = Uniform {
            grid: affine::grid_for(4, false),
            shape: [rows, cols],
            columns: Columns::Runs(group),
            codes: CodeRows { bytes: codes.into(), row_bytes, bits: 4, signed: false },
            groups,
            scales: of_groups(parts[2])?,
            zeros: of_groups(parts[1])?,
            more: More { offsets: true, ..More::default() },
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}
