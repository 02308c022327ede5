//! Writes GGUF files, version 3: one, or a model in parts.

use crate::error::{Error, Result};
use crate::file::container::gguf::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NAME, Metadata, Value, ValueType, check_alignment,
};
use crate::file::container::gguf_split::{self, MAX_PARTS, Part};
use crate::file::container::output::{self, NewFile, Sink};
use crate::file::container::stored::DType;
use crate::file::names::{NameIndex, shown};
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Keys and values for a new file, in order. Copied ones stay slices of the file they come from.
#[derive(Clone, Default)]
pub struct Entries {
    /// Key; type and value as a file holds them.
    list: Vec<(String, Bytes)>,
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.list.iter().map(|(key, _)| key)).finish()
    }
}

impl Entries {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`: in its place if it is there, else at the end.
    pub fn set(&mut self, key: &str, value: Value<'_>) {
        let mut encoded = (value.value_type() as u32).to_le_bytes().to_vec();
        value.encode(&mut encoded);
        self.put(key, encoded.into());
    }

    /// Sets `key` to a string.
    pub fn set_str(&mut self, key: &str, value: &str) {
        self.set(key, Value::String(value.as_bytes()));
    }

    /// Sets `key` to an array of numbers, bools or strings.
    ///
    /// # Errors
    /// [`Error::Argument`] if an element is of another type than `element`, or an array itself.
    pub fn set_array(&mut self, key: &str, element: ValueType, values: &[Value<'_>]) -> Result<()> {
        let mut encoded = Vec::new();
        encoded.extend((ValueType::Array as u32).to_le_bytes());
        encoded.extend((element as u32).to_le_bytes());
        encoded.extend((values.len() as u64).to_le_bytes());
        for value in values {
            if value.value_type() != element || element == ValueType::Array {
                let got = value.value_type();
                return Err(Error::Argument(format!(
                    "key `{key}`: an array of {element:?} cannot hold {got:?}"
                )));
            }
            value.encode(&mut encoded);
        }
        self.put(key, encoded.into());
        Ok(())
    }

    /// Takes `key` away, if it is there.
    pub fn remove(&mut self, key: &str) {
        self.list.retain(|(k, _)| k != key);
    }

    fn put(&mut self, key: &str, encoded: Bytes) {
        match self.list.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = encoded,
            None => self.list.push((key.into(), encoded)),
        }
    }

    /// What a part of a model of so many tensors holds of these: the first all, the others what
    /// readers need to find tensors.
    fn of_part(&self, part: Part, tensors: usize) -> Self {
        let kept = |(key, _): &&(String, Bytes)| part.no == 0 || key == ALIGNMENT_KEY;
        let mut own = Self { list: self.list.iter().filter(kept).cloned().collect() };
        part.entries(tensors).into_iter().for_each(|(key, value)| own.set(key, value));
        own
    }

    /// What tensors are aligned to: the value of `general.alignment`, or 32.
    fn alignment(&self) -> Result<u64> {
        let Some((_, encoded)) = self.list.iter().find(|(key, _)| key == ALIGNMENT_KEY) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let bad = |problem| Error::Argument(format!("key `{ALIGNMENT_KEY}`: {problem}"));
        match **encoded {
            [4, 0, 0, 0, a, b, c, d] => {
                check_alignment(Value::U32(u32::from_le_bytes([a, b, c, d]))).map_err(bad)
            }
            _ => Err(bad("it must be a U32".into())),
        }
    }
}

impl From<&Metadata> for Entries {
    /// All keys of a model: not those that say which part of it a file is.
    fn from(metadata: &Metadata) -> Self {
        let of_model = metadata.encoded().filter(|(key, _)| !gguf_split::KEYS.contains(key));
        Self { list: of_model.map(|(key, encoded)| (key.to_owned(), encoded)).collect() }
    }
}

/// Where a model is written to: one file, or parts of at most so many bytes, as far as single
/// tensors allow.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    path: &'a Path,
    max_part: Option<u64>,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Destination<'a> {
    /// One file.
    fn from(path: &'a P) -> Self {
        Self { path: path.as_ref(), max_part: None }
    }
}

impl<'a> Destination<'a> {
    /// Files named after `path`, `NAME-00001-of-0000N.gguf`, none larger than `max_part` bytes
    /// unless one tensor alone is; `path` itself if all fits into one. Of a tensor, no part holds a
    /// piece.
    pub fn in_parts(path: &'a Path, max_part: Option<u64>) -> Self {
        Self { path, max_part }
    }

    /// The files that [`write()`] would make.
    ///
    /// # Errors
    /// [`Error::Argument`] as [`write()`].
    pub fn files(&self, entries: &Entries, tensors: &[NewTensor]) -> Result<Vec<PathBuf>> {
        Ok(self.parts(entries, tensors)?.into_iter().map(|part| part.path).collect())
    }

    /// The parts, headers and all.
    fn parts(&self, entries: &Entries, tensors: &[NewTensor]) -> Result<Vec<NewPart>> {
        let alignment = entries.alignment()?;
        refuse_duplicates(tensors)?;
        let whole = padded_header(entries, tensors, alignment)?.len() as u64;
        let fits = |max| whole.saturating_add(data_bytes(tensors, alignment)) <= max;
        let ranges = match self.max_part.filter(|max| !fits(*max)) {
            None => std::iter::once(0..tensors.len()).collect(),
            Some(max) => ranges(entries, tensors, PartSize { max, alignment })?,
        };
        let count = ranges.len();
        if count > MAX_PARTS {
            let path = self.path.display();
            return Err(Error::Argument(format!(
                "{path}: {count} parts are more than the {MAX_PARTS} that GGUF counts; take larger ones"
            )));
        }
        let part = |(no, range): (usize, Range<usize>)| {
            let part = Part { no, count };
            let of_part = entries.of_part(part, tensors.len());
            let (path, own) = match count {
                1 => (self.path.into(), entries),
                _ => (part.path(self.path), &of_part),
            };
            let header = padded_header(own, &tensors[range.clone()], alignment)?;
            Ok(NewPart { path, header, range })
        };
        ranges.into_iter().enumerate().map(part).collect()
    }
}

/// A file to be written.
struct NewPart {
    path: PathBuf,
    /// Padded to the alignment.
    header: Vec<u8>,
    /// Its tensors.
    range: Range<usize>,
}

impl NewPart {
    /// What is written of a model of these tensors.
    fn new_file(&self, tensors: &[NewTensor], alignment: u64) -> NewFile<'_> {
        let data = data_bytes(&tensors[self.range.clone()], alignment);
        let bytes = (self.header.len() as u64).saturating_add(data);
        NewFile { bytes: Some(bytes), ..NewFile::from(&self.path) }
    }
}

/// How large a part may be.
struct PartSize {
    max: u64,
    alignment: u64,
}

/// Which tensors go into which part.
fn ranges(entries: &Entries, tensors: &[NewTensor], size: PartSize) -> Result<Vec<Range<usize>>> {
    // Whatever the numbers are, they take as many bytes.
    let head = |no: usize| {
        let of_part = entries.of_part(Part { no, count: MAX_PARTS }, tensors.len());
        Ok::<_, Error>(header(&of_part, &[], size.alignment)?.len() as u64)
    };
    let other_head = head(1)?;
    let (mut head_bytes, mut data, mut start) = (head(0)?, 0u64, 0);
    let mut ranges = vec![];
    for (i, tensor) in tensors.iter().enumerate() {
        let mut info = vec![];
        put_name(&mut info, "tensor", &tensor.name)?;
        let bytes = put_info(&mut info, tensor, 0).map_err(|problem| unfit(tensor, &problem))?;
        let bytes = bytes.next_multiple_of(size.alignment);
        let next_head = head_bytes + info.len() as u64;
        let next_data = data.saturating_add(bytes);
        let file = next_head.next_multiple_of(size.alignment).saturating_add(next_data);
        if i > start && file > size.max {
            ranges.push(start..i);
            (head_bytes, data, start) = (other_head + info.len() as u64, bytes, i);
        } else {
            (head_bytes, data) = (next_head, next_data);
        }
    }
    ranges.push(start..tensors.len());
    Ok(ranges)
}

fn unfit(tensor: &NewTensor, problem: &str) -> Error {
    Error::Argument(format!("tensor `{}`: {problem}", shown(&tensor.name)))
}

/// A tensor of a new file; its bytes come when it is its turn.
#[derive(Clone, Debug)]
pub struct NewTensor {
    /// The name.
    pub name: String,
    /// How it is stored.
    pub dtype: DType,
    /// Outermost dimension first; at most four.
    pub shape: Vec<u64>,
}

/// Writes a model: `fill` is called once for every tensor, in order, and puts exactly that tensor's
/// bytes.
///
/// The file, or all parts, appear only when they are whole.
///
/// # Errors
/// [`Error::Argument`] if GGUF cannot hold a key or tensor, or so many parts; [`Error::Shape`] if
/// `fill` puts another number of bytes, [`Error::Output`], or what `fill` returns.
pub fn write<'a>(
    to: impl Into<Destination<'a>>,
    entries: &Entries,
    tensors: &[NewTensor],
    mut fill: impl FnMut(usize, &mut Sink<'_>) -> Result<()>,
) -> Result<()> {
    let (parts, alignment) = (to.into().parts(entries, tensors)?, entries.alignment()?);
    let files: Vec<_> = parts.iter().map(|part| part.new_file(tensors, alignment)).collect();
    output::write_all(&files, |file, sink| {
        sink.put(&parts[file].header)?;
        for i in parts[file].range.clone() {
            let start = sink.written();
            fill(i, sink)?;
            check_size(&tensors[i], sink.written() - start)?;
            sink.pad(alignment)?;
        }
        Ok(())
    })
}

fn check_size(tensor: &NewTensor, got: u64) -> Result<()> {
    let wanted = tensor.dtype.bytes_of_rows(&tensor.shape).unwrap_or_default();
    if got == wanted {
        return Ok(());
    }
    let what = format!("tensor `{}`: bytes written", shown(&tensor.name));
    Err(Error::shape(what, wanted, got))
}

/// What tensors take together, each padded.
fn data_bytes(tensors: &[NewTensor], alignment: u64) -> u64 {
    let bytes =
        |t: &NewTensor| t.dtype.bytes_of_rows(&t.shape).unwrap_or_default().next_multiple_of(alignment);
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(bytes(tensor)))
}

/// What comes before the data.
fn padded_header(entries: &Entries, tensors: &[NewTensor], alignment: u64) -> Result<Vec<u8>> {
    let mut header = header(entries, tensors, alignment)?;
    header.resize(header.len().next_multiple_of(alignment as usize), 0);
    Ok(header)
}

fn header(entries: &Entries, tensors: &[NewTensor], alignment: u64) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.list.len() as u64).to_le_bytes());
    for (key, encoded) in &entries.list {
        put_name(&mut out, "key", key)?;
        out.extend_from_slice(encoded);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_name(&mut out, "tensor", &tensor.name)?;
        let bytes = put_info(&mut out, tensor, offset).map_err(|problem| unfit(tensor, &problem))?;
        offset = offset.saturating_add(bytes.next_multiple_of(alignment));
    }
    Ok(out)
}

fn refuse_duplicates(tensors: &[NewTensor]) -> Result<()> {
    match NameIndex::new(tensors.len(), |i| tensors[i].name.as_bytes()) {
        Ok(_) => Ok(()),
        Err(i) => Err(Error::Argument(format!("tensor `{}` is given twice", shown(&tensors[i].name)))),
    }
}

fn put_name(out: &mut Vec<u8>, what: &str, name: &str) -> Result<()> {
    if name.len() as u64 > MAX_NAME {
        let problem = format!("{what} `{}`: its name exceeds {MAX_NAME} bytes", shown(name));
        return Err(Error::Argument(problem));
    }
    out.extend((name.len() as u64).to_le_bytes());
    out.extend(name.as_bytes());
    Ok(())
}

/// Appends what follows a tensor's name; returns the bytes of its data.
fn put_info(out: &mut Vec<u8>, tensor: &NewTensor, offset: u64) -> Result<u64, String> {
    let dtype = tensor.dtype;
    let id = dtype.gguf_type().ok_or(format!("GGUF cannot hold {dtype}"))?;
    let bytes = dtype.bytes_of_rows(&tensor.shape)?;
    if tensor.shape.len() > MAX_DIMS as usize {
        return Err(format!("GGUF holds {MAX_DIMS} dimensions at most, got {}", tensor.shape.len()));
    }
    out.extend((tensor.shape.len() as u32).to_le_bytes());
    tensor.shape.iter().rev().for_each(|dim| out.extend(dim.to_le_bytes()));
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    Ok(bytes)
}
