//! INT8 weights of bitsandbytes (LLM.int8): `weight` in I8 with the largest magnitude of each row
//! in `SCB`, and `weight_format`, which says in which order the rows lie.
//!
//! This crate may put two tensors beside them, which bitsandbytes does not read: `outlier_columns`
//! and `outlier_weight`, some columns of the weight before it was quantized. The codes are complete
//! without them.

use super::outlier_columns;
use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::format::{self, affine};
use crate::linear::OutlierColumns;
use crate::tensor::PackedTensor;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention = Convention {
    methods: &["bitsandbytes"],
    codes: &[],
    parts: &["outlier_columns", "outlier_weight", "weight_format"],
    modules,
};

/// An INT8 weight, as far as headers tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Int8Module {
    rows: usize,
    cols: usize,
    /// The columns that were kept, in order. The last two parts are theirs.
    kept: Vec<u32>,
}

/// Orders of bitsandbytes' `LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING`, by number. Kernels of old cards
/// wanted the others.
const ORDERS: [&str; 4] = ["row", "col32", "col_turing", "col_ampere"];

/// All INT8 weights among the tensors of a checkpoint.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where types or lengths disagree, or the order is
/// not by rows.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let mut modules = vec![];
    for (scb, stem) in checkpoint.named("SCB") {
        let weight = checkpoint.scaled_by(scb, stem, "weight")?;
        let beside = |name| checkpoint.beside(stem, name);
        let order = beside("weight_format");
        let kept = [outlier_columns::LIST, outlier_columns::WEIGHT].map(|end| beside(&end[1..]));
        modules.push(module((weight, scb, order), kept, checkpoint)?);
    }
    Ok(modules)
}

fn module(
    (weight, scb, order): (&TensorInfo, &TensorInfo, Option<&TensorInfo>),
    kept: [Option<&TensorInfo>; 2],
    checkpoint: &Checkpoint,
) -> Result<TensorInfo> {
    let (table, files) = (checkpoint.table, checkpoint.files);
    let [rows, cols] = files.matrix(weight)?;
    files.typed(weight, &["I8"])?;
    files.typed(scb, &["F32"])?;
    files.count(scb, rows, "scales")?;
    if scb.shape != [rows, 1] {
        files.expect(scb, &[rows], "scales of rows")?;
    }
    if let Some(order) = order {
        check_order(order, files)?;
    }
    let list = outlier_columns::check(kept, [rows, cols], files)?;
    let scheme = Int8Module { rows: rows as usize, cols: cols as usize, kept: list };
    let (name, shape) = (weight.name.clone(), weight.shape.clone());
    let parts: Vec<_> = [Some(weight), Some(scb), order].into_iter().chain(kept).collect();
    Ok(Module::info(table, name, format::INT8, shape, &parts, Arc::new(scheme)))
}

fn check_order(order: &TensorInfo, files: &Files) -> Result<()> {
    files.typed(order, &["U8"])?;
    files.count(order, 1, "number of the order")?;
    match files.bytes(order)?[0] {
        0 => Ok(()),
        other => {
            let name = ORDERS.get(usize::from(other)).copied().unwrap_or("unknown");
            let problem =
                format!("its order is {other} ({name}); only 0 (row) is supported, as in bitsandbytes today");
            Err(files.malformed(order, problem))
        }
    }
}

impl Scheme for Int8Module {
    fn description(&self) -> String {
        let kept = match self.kept.len() {
            0 => String::new(),
            count => format!(", {count} columns in F16 too"),
        };
        format!("bitsandbytes, LLM.int8, a scale a row{kept}")
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (codes, absmax) = (files.bytes(parts[0])?, files.f32s(parts[1])?);
        let storage = affine::int8::rows([self.rows, self.cols], codes, absmax);
        PackedTensor::from_storage(name, (self.rows, self.cols), Arc::new(storage))
    }

    fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The columns that were kept, if any were.
    fn kept(&self, parts: &[&TensorInfo], files: &Files) -> Result<Option<OutlierColumns>> {
        let (Some(weight), false) = (parts.last(), self.kept.is_empty()) else { return Ok(None) };
        let bytes = files.bytes(weight)?;
        let packed = PackedTensor::new(&*weight.name, format::F16, self.rows, self.kept.len(), bytes)?;
        OutlierColumns::new(self.kept.clone(), packed).map(Some)
    }
}
