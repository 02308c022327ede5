//! Importance matrices as llama-imatrix writes them: for each weight, the mean square of every
//! input feature over a calibration text.
//!
//! Both forms are read. GGUF holds `<weight>.in_sum2` `[matrices, k]`, sums of squares, and
//! `<weight>.counts` `[matrices]`, how many activations went into them; a matrix that got none
//! counts 1 everywhere, as in llama-quantize. The older `.dat` is, little-endian:
//!
//! ```text
//! i32 entries
//! entries ×  i32 length, name; i32 calls; i32 n; f32 values[n]          mean square × calls
//! i32 chunks  i32 length, data set                                      in most files
//! ```
//!
//! ```no_run
//! # fn main() -> qmatmul::Result<()> {
//! use qmatmul::file::{OpenOptions, imatrix::Imatrix};
//! let imatrix = Imatrix::open("imatrix.gguf", &OpenOptions::default())?;
//! let importance = imatrix.find("blk.0.ffn_up.weight")?;
//! println!("{} features of {} matrices", importance.cols(), importance.matrices);
//! # Ok(())
//! # }
//! ```

use crate::error::{Error, Result};
use crate::file::container::folder::malformed;
use crate::file::container::gguf::{self, MAX_NAME, Value};
use crate::file::container::source::OpenOptions;
use crate::file::container::source::Source;
use crate::file::container::tensors::Files;
use crate::file::container::tensors::MAX_TENSORS;
use crate::file::container::tensors::TensorInfo;
use crate::file::model::Model;
use crate::file::names::{NameIndex, hint, shown};
use bytes::{Buf, Bytes};
use std::path::{Path, PathBuf};

/// The value of `general.type` in the GGUF form.
const GENERAL_TYPE: &[u8] = b"imatrix";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// So many names of data sets are kept: they are for people.
const MAX_DATASETS: usize = 64;

/// What one weight is known to be multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The weight's name: `blk.0.ffn_up.weight`.
    pub name: String,
    /// Matrices that the weight is a stack of, each with values of its own: experts. The `.dat`
    /// form does not say, there it is 1.
    pub matrices: usize,
    /// Mean square of each input feature `[matrices, k]`. As the tool left them: NaN is to be
    /// expected of models that overflowed.
    pub values: Vec<f32>,
    /// Activations that went into it (`.dat`: calls), of the matrix that got most.
    pub count: f32,
}

impl Importance {
    /// Features of one matrix, k.
    pub fn cols(&self) -> usize {
        self.values.len() / self.matrices.max(1)
    }

    /// True if every value is a number of 0 or more, as mean squares are.
    pub fn is_usable(&self) -> bool {
        self.values.iter().all(|v| v.is_finite() && *v >= 0.0)
    }
}

/// An opened importance matrix.
pub struct Imatrix {
    path: PathBuf,
    entries: Vec<Importance>,
    index: NameIndex,
    /// Files of text that it was made with, as the tool was told: the first 64, fit to be printed,
    /// long ones cut.
    pub datasets: Vec<String>,
    /// Chunks of that text.
    pub chunks: Option<u64>,
}

impl std::fmt::Debug for Imatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imatrix")
            .field("path", &self.path)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Imatrix {
    /// Opens either form: what begins with `GGUF` is that.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Malformed`] where the file contradicts its format.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        Self::of(path, Source::open(path, options.mmap)?)
    }

    /// The same of bytes that are in memory; `label` names them in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] as in [`Imatrix::open`].
    pub fn from_bytes(label: &str, bytes: impl Into<Bytes>) -> Result<Self> {
        let path = Path::new(label);
        Self::of(path, Source::from_bytes(path, bytes.into()))
    }

    fn of(path: &Path, source: Source) -> Result<Self> {
        let head = source.copy(0..source.len().min(4))?;
        if head.starts_with(gguf::MAGIC) {
            return Self::from_model(&Model::from_gguf(path, source)?);
        }
        // What is no importance matrix is not read as a whole.
        let len = head.len() as u64;
        let count = Reader { path, left: head, len }.count(source.len() - len)?;
        let left = source.copy(len..source.len())?;
        let mut reader = Reader { path, left, len: source.len() };
        let (entries, starts) = reader.entries(count)?;
        let (chunks, datasets) = reader.tail()?;
        let index = NameIndex::new(entries.len(), |i| entries[i].name.as_bytes()).map_err(|i| {
            reader.bad(
                starts[i],
                format!("entry `{}`", shown(&entries[i].name)),
                "it was listed before".into(),
            )
        })?;
        Ok(Self { path: path.into(), entries, index, datasets, chunks })
    }

    /// True if a file begins as the `.dat` form does: with a number of entries that fit it, and a
    /// name. No GGUF, safetensors or JSON does. False for a folder.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn is_dat(path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        if !path.is_file() {
            return Ok(false);
        }
        let source = Source::open(path, false)?;
        let mut head = source.copy(0..source.len().min(8))?;
        let mut number = || head.try_get_i32_le().ok().and_then(|n| u64::try_from(n).ok());
        let (count, name) = (number(), number());
        Ok(count.is_some_and(|count| possible(count, source.len() - 4))
            && name.is_some_and(|len| (1..=MAX_NAME).contains(&len)))
    }

    /// True if the metadata of a GGUF says that it holds an importance matrix.
    pub fn is_one(model: &Model) -> bool {
        matches!(model.gguf().get("general.type"), Some(Value::String(GENERAL_TYPE)))
    }

    /// That of a GGUF that is open already.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none, and [`Error::Io`] if its tensors cannot be read.
    pub fn from_model(model: &Model) -> Result<Self> {
        if !Self::is_one(model) {
            let problem = "it does not say `imatrix`, so this is a model, not an importance matrix".into();
            let at = model.gguf().offset("general.type");
            return Err(malformed(model.path(), "key `general.type`", at, problem));
        }
        let alone = |info: &&TensorInfo| {
            let weight = info.name.strip_suffix(COUNTS);
            weight.is_some_and(|weight| model.tensors.beside(weight, SUMS).is_none())
        };
        if let Some(counts) = model.tensors().iter().find(alone) {
            let problem = format!("the sums that it counts for (`…{SUMS}`) are not there");
            return Err(model.malformed(counts, problem));
        }
        let sums = model.tensors().iter().filter_map(|info| Some((info, info.name.strip_suffix(SUMS)?)));
        let entries = sums.map(|(info, name)| importance(model, info, name)).collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            let problem = format!("it has 0 tensors whose names end in `{SUMS}`, 1 at least is needed");
            return Err(malformed(model.path(), "header", 0, problem));
        }
        // Names of tensors differ, so those of their weights do.
        let index = NameIndex::new(entries.len(), |i| entries[i].name.as_bytes()).unwrap_or_default();
        Ok(Self {
            path: model.path().into(),
            entries,
            index,
            datasets: datasets(model),
            chunks: model.gguf().get("imatrix.chunk_count").and_then(|v| v.as_u64()),
        })
    }

    /// The path as it was given, or the label.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> &[Importance] {
        &self.entries
    }

    /// The entry of this weight, by its name with or without `.weight`.
    ///
    /// # Errors
    /// [`Error::NotFound`], with similar names if there are any.
    pub fn find(&self, name: &str) -> Result<&Importance> {
        let get = |end: &str| {
            self.index.find(&[name.as_bytes(), end.as_bytes()], |i| self.entries[i].name.as_bytes())
        };
        get("").or_else(|| get(".weight")).map(|i| &self.entries[i]).ok_or_else(|| Error::NotFound {
            file: self.path.display().to_string(),
            what: "entry",
            name: shown(name),
            hint: hint(name, self.entries.iter().map(|e| &*e.name)),
        })
    }
}

/// The names in `imatrix.datasets`.
fn datasets(model: &Model) -> Vec<String> {
    let text = |value: Value| match value {
        Value::String(bytes) => Some(printable(bytes)),
        _ => None,
    };
    match model.gguf().get("imatrix.datasets") {
        Some(Value::Array(array)) => array.iter().take(MAX_DATASETS).filter_map(text).collect(),
        _ => vec![],
    }
}

/// A data set's name: for people only, in whatever encoding.
fn printable(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME as usize)]))
}

/// One weight of the GGUF form.
fn importance(model: &Model, sums: &TensorInfo, name: &str) -> Result<Importance> {
    let files = Files(&model.files);
    let malformed = |info, problem: String| Err(model.malformed(info, problem));
    let Some(counts) = model.tensors.beside(name, COUNTS) else {
        return malformed(sums, format!("`{}{COUNTS}` belongs to it, and is not there", shown(name)));
    };
    if let Some(other) = [sums, counts].into_iter().find(|t| t.dtype.name() != "F32") {
        return malformed(other, format!("it must be F32, its type is {}", other.dtype));
    }
    if counts.elements() != sums.rows() {
        let (wanted, got) = (sums.rows(), counts.elements());
        return malformed(
            counts,
            format!("it must have a count for each of {wanted} matrices, it has {got}"),
        );
    }
    if sums.elements() == 0 {
        return malformed(sums, format!("it has no values: {} matrices of {}", sums.rows(), sums.cols()));
    }
    let (mut values, numbers) = (files.f32s(sums)?, files.f32s(counts)?);
    let good = |count: &f32| count.is_finite() && *count >= 0.0;
    if let Some((i, count)) = numbers.iter().enumerate().find(|(_, count)| !good(count)) {
        return malformed(counts, format!("count #{i} is {count}, it must be 0 or more"));
    }
    for (values, count) in values.chunks_mut(sums.cols() as usize).zip(&numbers) {
        values.iter_mut().for_each(|v| *v = if *count > 0.0 { *v / count } else { 1.0 });
    }
    let count = numbers.iter().copied().fold(0.0, f32::max);
    Ok(Importance { name: name.into(), matrices: numbers.len(), values, count })
}

/// An entry of a `.dat` file takes so many bytes at least: three numbers, a letter, and one value.
const LEAST_ENTRY: u64 = 17;

/// True if so many entries may follow in so many bytes.
fn possible(count: u64, bytes: u64) -> bool {
    (1..=MAX_TENSORS).contains(&count) && count * LEAST_ENTRY <= bytes
}

/// What is left of a `.dat` file.
struct Reader<'a> {
    path: &'a Path,
    left: Bytes,
    len: u64,
}

impl Reader<'_> {
    fn at(&self) -> u64 {
        self.len - self.left.len() as u64
    }

    fn bad(&self, offset: u64, what: String, problem: String) -> Error {
        malformed(self.path, &what, offset, problem)
    }

    /// A number that must not be negative.
    fn number(&mut self, what: &str, name: &str) -> Result<u64> {
        let at = self.at();
        let value = self.left.try_get_i32_le().map_err(|_| {
            let problem =
                format!("{name} (4 bytes) should follow, but the file ends after {}", self.left.len());
            self.bad(at, what.into(), problem)
        })?;
        u64::try_from(value).map_err(|_| self.bad(at, what.into(), format!("{name} is {value}")))
    }

    /// `n` bytes of something.
    fn take(&mut self, n: u64, what: &str, name: &str) -> Result<Bytes> {
        let left = self.left.len() as u64;
        match n <= left {
            true => Ok(self.left.split_to(n as usize)),
            false => Err(self.bad(self.at(), what.into(), format!("{name} claims {n} bytes, {left} follow"))),
        }
    }

    /// A text with its length before it.
    fn text(&mut self, what: &str, name: &str) -> Result<Bytes> {
        let at = self.at();
        let len = self.number(what, &format!("the length of {name}"))?;
        if len > MAX_NAME {
            return Err(self.bad(
                at,
                what.into(),
                format!("{name} claims {len} bytes, the limit is {MAX_NAME}"),
            ));
        }
        self.take(len, what, name)
    }

    /// The number of entries, behind which `follow` bytes follow.
    fn count(mut self, follow: u64) -> Result<u64> {
        let count = self.number("header", "the number of entries")?;
        if !possible(count, follow) {
            let problem = format!(
                "it claims {count} entries, {LEAST_ENTRY} bytes each at least; {follow} bytes follow, 1 to {MAX_TENSORS} are possible"
            );
            return Err(self.bad(0, "header".into(), problem));
        }
        Ok(count)
    }

    /// The entries, and where each starts.
    fn entries(&mut self, count: u64) -> Result<(Vec<Importance>, Vec<u64>)> {
        let (mut entries, mut starts) = (vec![], vec![]);
        for i in 0..count {
            starts.push(self.at());
            entries.push(self.entry(i)?);
        }
        Ok((entries, starts))
    }

    fn entry(&mut self, i: u64) -> Result<Importance> {
        let (at, what) = (self.at(), format!("entry #{i}"));
        let name = self.text(&what, "its name")?;
        let name = std::str::from_utf8(&name).map(str::to_owned).map_err(|e| {
            let byte = e.valid_up_to();
            self.bad(at + 4 + byte as u64, what.clone(), format!("byte {byte} of its name is not UTF-8"))
        })?;
        if name.is_empty() {
            return Err(self.bad(at, what, "its name has 0 bytes".into()));
        }
        let what = format!("entry `{}`", shown(&name));
        let calls = self.number(&what, "its number of calls")?;
        let at = self.at();
        let count = self.number(&what, "its number of values")?;
        if count == 0 {
            return Err(self.bad(at, what, "it has no values".into()));
        }
        let values = self.take(4 * count, &what, "its values")?;
        let divisor = calls.max(1) as f32;
        let values = values.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) / divisor).collect();
        Ok(Importance { name, matrices: 1, values, count: calls as f32 })
    }

    /// Chunks and data set, in files that go on behind the entries.
    fn tail(&mut self) -> Result<(Option<u64>, Vec<String>)> {
        if self.left.is_empty() {
            return Ok((None, vec![]));
        }
        let chunks = self.number("end", "the number of chunks")?;
        let dataset = self.text("end", "the data set")?;
        match self.left.len() {
            0 => Ok((Some(chunks), vec![printable(&dataset)])),
            more => {
                Err(self.bad(self.at(), "end".into(), format!("{more} bytes follow that belong to nothing")))
            }
        }
    }
}
