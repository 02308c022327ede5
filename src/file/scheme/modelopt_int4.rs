//! Checkpoints of ModelOpt with `quant_algo` W4A16_AWQ (INT4_AWQ): `weight` U8 `[m / 2, k]`, the
//! low nibble for row 2i and the high one for row 2i + 1, in two's complement; `weight_scale` F32
//! `[m, groups]`; and for some `pre_quant_scale` `[k]`, which multiplies the activations.
//! `w[m, k] = q[m, k] · weight_scale[m, g] · pre_quant_scale[k]`.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::{Files, Module, Scheme, TensorInfo};
use crate::file::names::shown;
use crate::format::affine;
use crate::format::uniform::{CodeRows, Columns, More, Uniform};
use crate::tensor::PackedTensor;
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["modelopt"], codes: &[], parts: &["pre_quant_scale"], modules };

/// A weight, as far as headers tell.
#[derive(Debug)]
struct Int4 {
    shape: [usize; 2],
    /// Columns of a group.
    group: usize,
}

fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let ours = checkpoint.settings.is_of(&["modelopt"]);
    let mut modules = vec![];
    for (codes, stem) in checkpoint.named("weight").filter(|(codes, _)| codes.dtype.name() == "U8") {
        let Some(scale) = checkpoint.beside(stem, "weight_scale") else { continue };
        // Bytes are scales of floats, and a second scale is no other tool's.
        let is_integers = ["F32", "F16", "BF16"].contains(&scale.dtype.name());
        if is_integers && (ours || checkpoint.beside(stem, "weight_scale_2").is_some()) {
            modules.push(module(checkpoint, stem, codes, scale)?);
        }
    }
    Ok(modules)
}

fn module(checkpoint: &Checkpoint, stem: &str, codes: &TensorInfo, scale: &TensorInfo) -> Result<TensorInfo> {
    let (files, name) = (checkpoint.files, format!("{stem}weight"));
    let before = checkpoint.beside(stem, "pre_quant_scale");
    let parts = [Some(codes), Some(scale), before];
    let algorithm = checkpoint.settings.quant_algo();
    let other = checkpoint.beside(stem, "weight_scale_2");
    if other.is_some() || algorithm.is_some_and(|algorithm| !["w4a16_awq", "int4_awq"].contains(&algorithm)) {
        let second = if other.is_some() { " with `weight_scale_2`" } else { "" };
        let algorithm = algorithm.unwrap_or("not said");
        let scheme = format!("integers of ModelOpt{second} (quant_algo: {})", shown(algorithm));
        return Ok(checkpoint.unsupported(name, &[Some(codes), Some(scale), before, other], scheme));
    }
    let [half, cols] = files.matrix(codes)?;
    let [rows, groups] = files.matrix(scale)?;
    if rows != 2 * half || cols == 0 || groups == 0 || !cols.is_multiple_of(groups) {
        let problem = format!(
            "scales of {} rows in groups of {cols} columns belong here, its shape is {:?}",
            2 * half,
            scale.shape
        );
        return Err(files.malformed(scale, problem));
    }
    if let Some(before) = before {
        files.typed(before, &["F32", "F16", "BF16"])?;
        files.count(before, cols, "scales of columns")?;
    }
    let scheme = Int4 { shape: [rows as usize, cols as usize], group: (cols / groups) as usize };
    let format = affine::grid_for(4, true).format;
    Ok(Module::info(checkpoint.table, name, format, vec![rows, cols], &parts, Arc::new(scheme)))
}

impl Scheme for Int4 {
    fn description(&self) -> String {
        format!("ModelOpt INT4_AWQ, 4 bits, groups of {}, symmetric", self.group)
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let &Self { shape: shape @ [rows, cols], group } = self;
        let bytes = files.bytes(parts[0])?;
        // Counted from 8 here, so that the sign's bit is turned.
        let code = |row: usize, k: usize| (bytes[row / 2 * cols + k] >> (row % 2 * 4)) & 15 ^ 8;
        let row_bytes = cols.div_ceil(2);
        let mut codes = vec![0u8; rows * row_bytes];
        codes.par_chunks_mut(row_bytes.max(1)).enumerate().for_each(|(row, codes)| {
            for k in 0..cols {
                codes[k / 2] |= code(row, k) << (k % 2 * 4);
            }
        });
        let before = parts.get(2).map(|before| files.f32s(before)).transpose()?;
        let storage = Uniform {
            grid: affine::grid_for(4, true),
            shape,
            columns: Columns::Runs(group),
            codes: CodeRows { bytes: codes.into(), row_bytes, bits: 4, signed: false },
            groups: cols / group,
            scales: files.f32s(parts[1])?,
            zeros: vec![],
            more: More { column_scales: before.map(Into::into), ..More::default() },
        };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}
