//! Checkpoints of AWQ: codes of four bits, zeros as they are.
//! `w[m, k] = scales[g, m] · (q[k, m] - zero[g, m])`, `g = k / group`.
//!
//! Packing "gemm": `qweight` I32 `[k, m / 8]` and `qzeros` I32 `[groups, m / 8]` packed along m,
//! nibble `i` of a word for row 0, 2, 4, 6, 1, 3, 5, 7 of its eight; `scales` `[groups, m]`.
//! Packing "gemv": `qweight` I32 `[m, k / 8]`, `qzeros` I32 `[m, words]` and `scales`
//! `[m, 8 · words]` in plain order, filled up with zeros.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::file::scheme::gptq::{Parts, Sizes, transposed};
use crate::format::affine;
use crate::format::uniform::{CodeRows, Columns, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["awq"], codes: &["qweight"], parts: &["qzeros"], modules };

/// Row of nibble `i` of a word, of the word's eight.
const ROWS: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// How codes are put into words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Packing {
    Gemm,
    Gemv,
}

/// What settings say of a weight.
pub(crate) struct Told {
    /// Bits of a code.
    pub bits: Option<i64>,
    /// Nothing where shapes must tell.
    pub packing: Option<Packing>,
    /// Columns of a group, -1 for a whole row.
    pub group_size: Option<i64>,
    /// All zeros are 8.
    pub symmetric: bool,
    pub tool: &'static str,
}

/// A weight of AWQ, as far as headers and settings tell.
#[derive(Clone, Debug)]
struct Awq {
    packing: Packing,
    rows: usize,
    cols: usize,
    run: usize,
    groups: usize,
    symmetric: bool,
    tool: &'static str,
}

/// All weights of AWQ in a checkpoint.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where parts are missing, or shapes disagree with
/// each other or the settings.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let method = checkpoint.settings.method();
    if method.is_some_and(|m| m != "awq") {
        return Ok(vec![]);
    }
    let settings = checkpoint.settings;
    let packing = match settings.version() {
        Some("gemm") => Ok(Some(Packing::Gemm)),
        Some("gemv") => Ok(Some(Packing::Gemv)),
        None => Ok(None),
        Some(other) => Err(other),
    };
    let mut modules = vec![];
    // 16-bit words are those of gemv_fast.
    for (codes, stem) in checkpoint.named("qweight").filter(|(codes, _)| codes.dtype.name() != "I16") {
        let parts = Parts::find(checkpoint, codes, stem)?;
        if method.is_none() && codes.shape.last() == parts.scales.shape.last() {
            continue; // GPTQ
        }
        modules.push(match packing {
            Ok(packing) => {
                let (bits, group_size) = (settings.bits(), settings.group_size());
                let symmetric = settings.zero_point == Some(false);
                module(checkpoint, &parts, stem, &Told { bits, packing, group_size, symmetric, tool: "AWQ" })?
            }
            Err(other) => {
                let scheme = format!("AWQ in the packing `{}`", shown(other));
                checkpoint.unsupported(format!("{stem}weight"), &parts.all(), scheme)
            }
        });
    }
    Ok(modules)
}

/// The weight, by what the settings say of it.
pub(crate) fn module(checkpoint: &Checkpoint, parts: &Parts, stem: &str, told: &Told) -> Result<TensorInfo> {
    let files = checkpoint.files;
    if let Some(bits) = told.bits.filter(|bits| *bits != 4) {
        let scheme = format!("{} of {bits} bits", told.tool);
        return Ok(checkpoint.unsupported(format!("{stem}weight"), &parts.all(), scheme));
    }
    if let Some(order) = parts.order {
        return Err(files.malformed(order, "AWQ keeps columns in their order, so that no g_idx belongs here"));
    }
    let (codes, scales) = (&parts.codes.shape, &parts.scales.shape);
    // Rows of codes and of scales are the same in gemv: the outputs.
    let found = if codes[0] == scales[0] { Packing::Gemv } else { Packing::Gemm };
    let packing = told.packing.unwrap_or(found);
    let (rows, cols, groups, run) = match packing {
        Packing::Gemm => {
            let (rows, cols, groups) = (codes[1] * 8, codes[0], scales[0]);
            let run = gemm_run(files, parts, told, [cols, groups])?;
            files.expect(parts.scales, &[groups, rows], "scales")?;
            files.expect(parts.zeros, &[groups, codes[1]], "words of zeros")?;
            (rows, cols, groups, run)
        }
        Packing::Gemv => {
            let (rows, cols) = (codes[0], codes[1] * 8);
            let run = gemv_run(files, parts, told, [rows, cols])?;
            (rows, cols, cols.div_ceil(run), run)
        }
    };
    let scheme = Awq {
        packing,
        rows: rows as usize,
        cols: cols as usize,
        run: run as usize,
        groups: groups as usize,
        symmetric: told.symmetric,
        tool: told.tool,
    };
    let format = affine::grid_for(4, told.symmetric).format;
    Ok(Module::info(
        checkpoint.table,
        format!("{stem}weight"),
        format,
        vec![rows, cols],
        &parts.all(),
        Arc::new(scheme),
    ))
}

fn gemm_run(files: &Files, parts: &Parts, told: &Told, [cols, groups]: [u64; 2]) -> Result<u64> {
    let sizes = Sizes { said: told.group_size.into_iter().collect(), others: false };
    // Without an order it is known.
    sizes.run(files, parts.scales, (cols, groups), false).map(|run| run.unwrap_or(cols))
}

/// Columns of a group of the gemv packing. Its scales are filled up, so that only the settings say
/// it, 128 if they do not; the width must be that of AutoAWQ's `calculate_zeros_width`.
fn gemv_run(files: &Files, parts: &Parts, told: &Told, [rows, cols]: [u64; 2]) -> Result<u64> {
    let size = u64::try_from(told.group_size.unwrap_or(128)).unwrap_or(cols);
    let multiple = match size {
        128.. => 1,
        64 => 2,
        32 => 4,
        // A short row in one group.
        _ if size == cols => 1,
        _ => {
            let problem =
                format!("AWQ gemv has groups of 32, 64, or 128 columns and more, these are of {size}");
            return Err(files.malformed(parts.scales, problem));
        }
    };
    let groups = cols.div_ceil(size);
    let words = groups.div_ceil(8).next_multiple_of(multiple);
    let what = format!("scales of {cols} columns in groups of {size}, filled up:");
    files.expect(parts.scales, &[rows, 8 * words], &what)?;
    files.expect(parts.zeros, &[rows, words], "words of zeros")?;
    Ok(size.min(cols))
}

impl Scheme for Awq {
    fn description(&self) -> String {
        let packing = if self.packing == Packing::Gemm { "gemm" } else { "gemv" };
        let kind = if self.symmetric { "symmetric" } else { "with zeros" };
        format!("{} {packing}, 4 bits, groups of {}, {kind}", self.tool, self.run)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (rows, cols, groups) = (self.rows, self.cols, self.groups);
        let (codes, zeros) = (files.words(parts[0])?, files.words(parts[1])?);
        let scales = files.f32s(parts[2])?;
        let (codes, zeros, scales) = match self.packing {
            Packing::Gemm => {
                let zeros = rows_of_nibbles(&zeros, groups, rows);
                (rows_of_nibbles(&codes, cols, rows), zeros, transposed(&scales, groups, rows))
            }
            Packing::Gemv => {
                let width = parts[2].shape[1] as usize;
                let kept = scales.chunks(width).flat_map(|row| &row[..groups]).copied().collect();
                (plain(&codes, rows), plain(&zeros, rows), kept)
            }
        };
        let zero = |row: usize| (0..groups).map(move |g| (row, g));
        let zeros: Vec<f32> =
            (0..rows).flat_map(zero).map(|(row, g)| zeros.code(zeros.row(row), g) as f32).collect();
        if let Some(other) = zeros.iter().find(|z| self.symmetric && **z != 8.0) {
            let problem = format!("the settings say zero_point false, whose zeros are 8, but one is {other}");
            return Err(files.malformed(parts[1], problem));
        }
        let storage = Uniform {
            grid: affine::grid_for(4, self.symmetric),
            shape: [rows, cols],
            columns: Columns::Runs(self.run),
            codes,
            groups,
            scales,
            zeros: if self.symmetric { vec![] } else { zeros },
            more: Default::default(),
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

/// Rows of words as they are.
fn plain(words: &[u32], rows: usize) -> CodeRows {
    let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    CodeRows { bytes, row_bytes: words.len() / rows * 4, bits: 4, signed: false }
}

/// `[cols, rows / 8]` words in the order of the gemm packing as rows of nibbles.
fn rows_of_nibbles(words: &[u32], cols: usize, rows: usize) -> CodeRows {
    let row_bytes = cols.div_ceil(2);
    let mut bytes = vec![0u8; rows * row_bytes];
    bytes.par_chunks_mut(8 * row_bytes).enumerate().for_each(|(block, bytes)| {
        for col in 0..cols {
            let word = words[col * (rows / 8) + block];
            for (i, row) in ROWS.iter().enumerate() {
                let nibble = (word >> (4 * i)) as u8 & 15;
                bytes[row * row_bytes + col / 2] |= nibble << (col % 2 * 4);
            }
        }
    });
    CodeRows { bytes: bytes.into(), row_bytes, bits: 4, signed: false }
}
