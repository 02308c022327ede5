//! The tensors of a file or checkpoint: their list, those that are one weight together, and their
//! bytes.

use crate::error::{Error, Result};
use crate::file::container::source::Source;
use crate::file::container::stored::{DType, UNSUPPORTED};
use crate::file::names::{NameIndex, hint, last, shown};
use crate::format::Format;
use crate::linear::OutlierColumns;
use crate::tensor::PackedTensor;
use bytes::Bytes;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// The most tensors of one file. The largest models have under 100,000 in all, experts counted one
/// by one; without a limit, the list for a file of nothing but empty tensors would outgrow the file
/// many times over.
pub(crate) const MAX_TENSORS: u64 = 131_072;

/// A tensor as its file lists it. Its bytes lie inside the file: that was checked when the file was
/// opened.
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
    /// Set where several tensors of a checkpoint are one weight: `bytes` are those of all of them,
    /// `offset` and `file` say where the codes lie.
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

    /// True if its bytes are a weight by themselves, as any file may hold it: it is no module, or
    /// one that [`Module::is_stored_alone`].
    pub fn is_stored_alone(&self) -> bool {
        self.module.as_ref().is_none_or(|module| module.is_stored_alone())
    }

    /// How it is stored, where there is no decoder for it: the name of the scheme, or of the type.
    pub fn unsupported(&self) -> Option<String> {
        let scheme = || self.module.as_ref().and_then(|module| module.scheme.unsupported());
        let missing = self.dtype.format().is_none();
        missing.then(|| scheme().unwrap_or(self.dtype.name()).to_owned())
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

/// The tensors behind one weight, and what is known of them from their headers.
#[derive(Clone, Debug)]
pub struct Module {
    /// Their positions among those of the files, the codes first. A file may hold so many weights
    /// that copies would outgrow it.
    parts: Positions,
    scheme: Arc<dyn Scheme>,
}

/// One position lies where the address of several would.
#[derive(Clone, Debug, PartialEq)]
enum Positions {
    One(u32),
    Several(Box<[u32]>),
}

impl Positions {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(position) => std::slice::from_ref(position),
            Self::Several(positions) => positions,
        }
    }
}

/// How they belong together: a convention of one tool.
pub(crate) trait Scheme: std::fmt::Debug + Send + Sync {
    /// See [`Module::description`].
    fn description(&self) -> String;

    /// The weight of this name, made of these parts.
    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor>;

    /// The name of the scheme where it is not supported.
    fn unsupported(&self) -> Option<&str> {
        None
    }

    /// True if the first part is a weight by itself, as any file may hold it: it can be copied.
    fn is_stored_alone(&self) -> bool {
        false
    }

    /// True if some parts are columns in 16 bits besides.
    fn has_kept(&self) -> bool {
        false
    }

    /// Those columns.
    fn kept(&self, _parts: &[&TensorInfo], _files: &Files) -> Result<Option<OutlierColumns>> {
        Ok(None)
    }
}

/// A scheme that is known by name and not supported.
#[derive(Debug)]
struct Unsupported {
    /// Its name, and what of it is not.
    scheme: String,
}

impl Scheme for Unsupported {
    fn description(&self) -> String {
        format!("{}: not supported", self.scheme)
    }

    fn unsupported(&self) -> Option<&str> {
        Some(&self.scheme)
    }

    fn load(&self, name: &str, _parts: &[&TensorInfo], _files: &Files) -> Result<PackedTensor> {
        Err(Error::UnsupportedFormat {
            tensor: shown(name),
            format: self.scheme.clone(),
            supported: "the schemes of docs/checkpoints.md".into(),
        })
    }
}

impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Module {
    /// What a reader should know beyond the format: "blocks of 64, scales in 8 bits, from float16".
    pub fn description(&self) -> String {
        self.scheme.description()
    }

    pub(crate) fn load(&self, name: &str, stored: &[TensorInfo], files: &Files) -> Result<PackedTensor> {
        self.scheme.load(name, &self.parts(stored), files)
    }

    /// Their positions among those of the files, the codes first.
    pub(crate) fn positions(&self) -> &[u32] {
        self.parts.as_slice()
    }

    /// The tensors themselves, the codes first.
    pub(crate) fn parts<'a>(&self, stored: &'a [TensorInfo]) -> Vec<&'a TensorInfo> {
        self.parts.as_slice().iter().filter_map(|i| stored.get(*i as usize)).collect()
    }

    /// A weight of this name, format and shape, made of these parts of the table, the codes first.
    pub(crate) fn info(
        table: &TensorTable,
        name: String,
        format: &'static Format,
        shape: Vec<u64>,
        parts: &[Option<&TensorInfo>],
        scheme: Arc<dyn Scheme>,
    ) -> TensorInfo {
        Self::of_type(table, name, DType::Supported(format), shape, parts, scheme)
    }

    /// The same of a scheme that is known by name and not supported.
    pub(crate) fn unsupported(
        table: &TensorTable,
        name: String,
        shape: Vec<u64>,
        parts: &[Option<&TensorInfo>],
        scheme: String,
    ) -> TensorInfo {
        let scheme = Arc::new(Unsupported { scheme });
        Self::of_type(table, name, DType::Other(&UNSUPPORTED), shape, parts, scheme)
    }

    fn of_type(
        table: &TensorTable,
        name: String,
        dtype: DType,
        shape: Vec<u64>,
        parts: &[Option<&TensorInfo>],
        scheme: Arc<dyn Scheme>,
    ) -> TensorInfo {
        let parts = || parts.iter().copied().flatten();
        let positions: Vec<u32> = parts().map(|part| table.position(part)).collect();
        let positions = match positions[..] {
            [one] => Positions::One(one),
            _ => Positions::Several(positions.into()),
        };
        let (offset, file) = parts().next().map_or((0, 0), |codes| (codes.offset, codes.file));
        TensorInfo {
            name,
            dtype,
            shape,
            offset,
            bytes: parts().map(|p| p.bytes).sum(),
            file,
            module: Some(Arc::new(Self { parts: positions, scheme })),
        }
    }

    /// True if its first part is a weight by itself, as any file may hold it, and the rest says how
    /// to read it: transposed, or times a scale.
    pub fn is_stored_alone(&self) -> bool {
        self.scheme.is_stored_alone()
    }

    /// True if the file holds columns in 16 bits besides.
    pub fn has_kept_columns(&self) -> bool {
        self.scheme.has_kept()
    }

    /// Columns that the file holds in 16 bits besides.
    pub(crate) fn kept(&self, stored: &[TensorInfo], files: &Files) -> Result<Option<OutlierColumns>> {
        self.scheme.kept(&self.parts(stored), files)
    }
}

/// The largest tensor that is fetched because another of its kind was read.
const MAX_ALIKE: u64 = 64 << 10;
/// The most that is fetched so at once.
const MAX_ALL_ALIKE: u64 = 64 << 20;

/// The files of a model.
pub(crate) struct Files<'a>(pub &'a [Source]);

impl Files<'_> {
    /// Notes that all bytes of these tensors are to be fetched.
    pub fn want<'t>(&self, tensors: impl Iterator<Item = &'t TensorInfo>) {
        for tensor in tensors {
            if let Some(file) = self.0.get(tensor.file).and_then(Source::ranges) {
                file.want(tensor.offset..tensor.offset.saturating_add(tensor.bytes));
            }
        }
    }

    /// Where small tensors of these have to be fetched, notes those that are named alike too: a
    /// convention that reads one of a weight reads one of every weight.
    pub fn want_alike(&self, tensors: &[TensorInfo]) {
        let wanted = self.0.iter().enumerate().filter_map(|(i, file)| Some((i, file.ranges()?.wanted())));
        let wanted: HashSet<_> =
            wanted.flat_map(|(i, of)| of.into_iter().map(move |r| (i, r.start))).collect();
        if wanted.is_empty() {
            return;
        }
        let asked = tensors.iter().filter(|t| wanted.contains(&(t.file, t.offset)));
        let lasts: HashSet<&str> = asked.map(|t| last(&t.name)).collect();
        let alike = tensors.iter().filter(|t| t.bytes <= MAX_ALIKE && lasts.contains(last(&t.name)));
        let mut left = MAX_ALL_ALIKE;
        self.want(alike.take_while(|t| {
            left = left.saturating_sub(t.bytes);
            left > 0
        }));
    }

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

    /// The numbers of a tensor of F32, F16 or BF16.
    pub fn f32s(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.bytes(tensor)?;
        let halves = |decode: fn([u8; 2]) -> f32| bytes.as_chunks().0.iter().map(|b| decode(*b)).collect();
        match tensor.dtype.name() {
            "F32" => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            "F16" => Ok(halves(|b| half::f16::from_le_bytes(b).to_f32())),
            "BF16" => Ok(halves(|b| half::bf16::from_le_bytes(b).to_f32())),
            other => {
                Err(self.malformed(tensor, format!("its type should be F32, F16 or BF16, it is {other}")))
            }
        }
    }

    /// The words of a tensor of I32.
    pub fn words(&self, tensor: &TensorInfo) -> Result<Vec<u32>> {
        match tensor.dtype.name() {
            "I32" => Ok(self.bytes(tensor)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
            other => Err(self.malformed(tensor, format!("its type should be I32, it is {other}"))),
        }
    }

    /// Refuses a tensor of another shape.
    pub fn expect(&self, tensor: &TensorInfo, shape: &[u64], what: &str) -> Result<()> {
        match tensor.shape == shape {
            true => Ok(()),
            false => {
                let problem = format!("{what} {shape:?} belong here, its shape is {:?}", tensor.shape);
                Err(self.malformed(tensor, problem))
            }
        }
    }

    /// Refuses a tensor of another number of elements, whatever its shape.
    pub fn count(&self, tensor: &TensorInfo, count: u64, what: &str) -> Result<()> {
        match tensor.elements() == count {
            true => Ok(()),
            false => {
                let (got, shape) = (tensor.elements(), &tensor.shape);
                Err(self.malformed(
                    tensor,
                    format!("{count} {what} belong here, got {got} (its shape is {shape:?})"),
                ))
            }
        }
    }

    /// Refuses a tensor that is no matrix; its rows and columns.
    pub fn matrix(&self, tensor: &TensorInfo) -> Result<[u64; 2]> {
        let problem = || format!("a matrix belongs here, its shape is {:?}", tensor.shape);
        <[u64; 2]>::try_from(&*tensor.shape).map_err(|_| self.malformed(tensor, problem()))
    }

    /// Refuses a tensor of another type.
    pub fn typed(&self, tensor: &TensorInfo, types: &[&str]) -> Result<()> {
        match types.contains(&tensor.dtype.name()) {
            true => Ok(()),
            false => {
                let problem = format!("its type should be {}, it is {}", types.join(" or "), tensor.dtype);
                Err(self.malformed(tensor, problem))
            }
        }
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
