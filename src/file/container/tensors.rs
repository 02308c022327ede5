//! The list of tensors of a file or checkpoint.

use crate::error::{Error, Result};
use crate::file::container::stored::DType;
use crate::file::names::{NameIndex, hint, shown};
use crate::file::scheme::module::Module;
use std::sync::Arc;

/// The most tensors of one file. The largest models have under 100,000 in all, experts counted one by one; without a
/// limit, the list for a file of nothing but empty tensors would outgrow the file many times over.
pub(crate) const MAX_TENSORS: u64 = 131_072;

/// A tensor as its file lists it. Its bytes lie inside the file: that was checked when the file was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// How it is stored.
    pub dtype: DType,
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Offset of the bytes from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Which of [`Model::files`](crate::file::Model::files) holds it.
    pub file: usize,
    /// Set where several tensors of a checkpoint are one weight: `bytes` are those of all of them, `offset` and `file` say where the
    /// codes lie.
    pub module: Option<Arc<Module>>,
}

impl TensorInfo {
    /// The innermost dimension, `k`; 1 for a scalar.
    pub fn cols(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The product of the other dimensions, `m`; 1 for a vector or a scalar.
    pub fn rows(&self) -> u64 {
        // Cannot overflow: the shape was checked with every zero counted as one.
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The number of weights.
    pub fn elements(&self) -> u64 {
        self.rows() * self.cols()
    }

    /// Bits per weight, scales included: of the format, or what a module takes.
    pub fn bits_per_weight(&self) -> f64 {
        match self.module {
            Some(_) => self.bytes as f64 * 8.0 / self.elements().max(1) as f64,
            None => self.dtype.bits_per_weight(),
        }
    }
}

/// Tensors in the order of their file, found by name.
#[derive(Debug)]
pub(crate) struct TensorTable {
    pub list: Vec<TensorInfo>,
    index: NameIndex,
}

impl TensorTable {
    /// # Errors
    /// The position of the first name that occurred before, and the list.
    pub fn new(list: Vec<TensorInfo>) -> Result<Self, (usize, Vec<TensorInfo>)> {
        match NameIndex::new(list.len(), |i| list[i].name.as_bytes()) {
            Ok(index) => Ok(Self { list, index }),
            Err(duplicate) => Err((duplicate, list)),
        }
    }

    /// Where one of the list's own tensors stands in it.
    pub fn position(&self, tensor: &TensorInfo) -> u32 {
        let bytes = std::ptr::from_ref(tensor).addr().wrapping_sub(self.list.as_ptr().addr());
        (bytes / size_of::<TensorInfo>()) as u32
    }

    /// The tensor of exactly this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.beside(name, "")
    }

    /// The tensor whose name is `stem` and then `end`: a part of the weight `stem`.
    pub fn beside(&self, stem: &str, end: &str) -> Option<&TensorInfo> {
        let pieces = [stem.as_bytes(), end.as_bytes()];
        self.index.find(&pieces, |i| self.list[i].name.as_bytes()).map(|i| &self.list[i])
    }

    /// The tensor of this name, or of this name with `.weight` appended.
    pub fn find(&self, file: impl FnOnce() -> String, name: &str) -> Result<&TensorInfo> {
        let found = self.get(name).or_else(|| self.beside(name, ".weight"));
        found.ok_or_else(|| Error::NotFound {
            file: file(),
            what: "tensor",
            name: shown(name),
            hint: hint(name, self.list.iter().map(|t| t.name.as_str())),
        })
    }
}
