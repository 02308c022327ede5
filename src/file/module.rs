//! Weights that several tensors of a checkpoint hold together: found by the conventions of the tools that write them.

use crate::error::{Error, Result};
use crate::file::names::shown;
use crate::file::source::Source;
use crate::file::tensors::{TensorInfo, TensorTable};
use crate::file::{bitsandbytes, bitsandbytes_int8};
use crate::linear::KeptColumns;
use crate::tensor::PackedTensor;
use bytes::Bytes;
use std::ops::Range;

/// The tensors behind one weight, and what is known of them from their headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// As the file lists them, the codes first.
    pub parts: Vec<TensorInfo>,
    pub(crate) scheme: Scheme,
}

/// How they belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scheme {
    /// Four bits of bitsandbytes.
    FourBit(bitsandbytes::FourBitModule),
    /// INT8 of bitsandbytes.
    Int8(bitsandbytes_int8::Int8Module),
}

impl Module {
    /// What a reader should know beyond the format: "blocks of 64, scales in 8 bits, from float16".
    pub fn description(&self) -> String {
        match &self.scheme {
            Scheme::FourBit(module) => module.description(),
            Scheme::Int8(module) => module.description(),
        }
    }

    pub(super) fn load(&self, name: &str, files: &Files) -> Result<PackedTensor> {
        match &self.scheme {
            Scheme::FourBit(module) => module.load(name, &self.parts, files),
            Scheme::Int8(module) => module.load(name, &self.parts, files),
        }
    }

    /// True if the file holds columns in 16 bits besides.
    pub fn has_kept_columns(&self) -> bool {
        matches!(&self.scheme, Scheme::Int8(module) if module.has_kept())
    }

    /// Columns that the file holds in 16 bits besides.
    pub(super) fn kept(&self, files: &Files) -> Result<Option<KeptColumns>> {
        match &self.scheme {
            Scheme::FourBit(_) => Ok(None),
            Scheme::Int8(module) => module.kept(&self.parts, files),
        }
    }
}

/// The files of a model.
pub(super) struct Files<'a>(pub &'a [Source]);

impl Files<'_> {
    /// All bytes of a tensor.
    pub fn bytes(&self, tensor: &TensorInfo) -> Result<Bytes> {
        self.range(tensor, 0..tensor.bytes)
    }

    /// Some bytes of a tensor.
    pub fn range(&self, info: &TensorInfo, range: Range<u64>) -> Result<Bytes> {
        let start = info.offset.checked_add(range.start);
        let end = info.offset.checked_add(range.end).filter(|_| range.end <= info.bytes);
        match (start.zip(end), self.0.get(info.file)) {
            (Some((start, end)), Some(file)) if start <= end => file.read(start..end),
            _ => Err(Error::Argument(format!("tensor `{}` has no bytes {range:?}", shown(&info.name)))),
        }
    }

    /// The f32 numbers of a tensor.
    pub fn f32s(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        Ok(self.bytes(tensor)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Something that is wrong with a tensor.
    pub fn malformed(&self, tensor: &TensorInfo, problem: impl Into<String>) -> Error {
        Error::Malformed {
            file: self.0.get(tensor.file).map(Source::label).unwrap_or_default(),
            what: format!("tensor `{}`", shown(&tensor.name)),
            offset: tensor.offset,
            problem: problem.into(),
        }
    }
}

/// The tensors of `table`, those that belong together as one.
pub(super) fn gather(table: TensorTable, files: &Files) -> Result<TensorTable> {
    let mut modules = bitsandbytes::modules(&table, files)?;
    modules.extend(bitsandbytes_int8::modules(&table, files)?);
    if modules.is_empty() {
        return Ok(table);
    }
    let parts = modules.iter().flat_map(|m| m.module.iter().flat_map(|m| &m.parts));
    let taken: std::collections::HashSet<String> = parts.map(|p| p.name.clone()).collect();
    // A module stands where its codes stood.
    let mut by_name: std::collections::HashMap<String, TensorInfo> =
        modules.into_iter().map(|m| (m.name.clone(), m)).collect();
    let keep = |t: TensorInfo| match by_name.remove(&t.name) {
        Some(module) => Some(module),
        None => (!taken.contains(&t.name)).then_some(t),
    };
    let list = table.list.into_iter().filter_map(keep).collect();
    TensorTable::new(list)
        .map_err(|(i, list)| files.malformed(&list[i], "a tensor of this name was listed before"))
}
