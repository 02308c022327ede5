//! Writes GGUF files, version 3.

use crate::error::{Error, Result};
use crate::file::container::gguf::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NAME, Metadata, Value, ValueType, check_alignment,
};
use crate::file::container::output::{self, Sink};
use crate::file::container::stored::DType;
use crate::file::names::{NameIndex, shown};
use bytes::Bytes;
use std::path::Path;

/// Keys and values for a new file, in order. Copied ones stay slices of the file they come from.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Key; type and value as a file holds them.
    list: Vec<(String, Bytes)>,
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
    /// All keys of a file.
    fn from(metadata: &Metadata) -> Self {
        Self { list: metadata.encoded().map(|(key, encoded)| (key.to_owned(), encoded)).collect() }
    }
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

/// Writes `path`: `fill` is called once for every tensor, in order, and puts exactly that tensor's
/// bytes.
///
/// The file appears only when it is whole.
///
/// # Errors
/// [`Error::Argument`] if GGUF cannot hold a key or tensor, [`Error::Shape`] if `fill` puts another
/// number of bytes, [`Error::Io`], or what `fill` returns.
pub fn write(
    path: &Path,
    entries: &Entries,
    tensors: &[NewTensor],
    mut fill: impl FnMut(usize, &mut Sink<'_>) -> Result<()>,
) -> Result<()> {
    let alignment = entries.alignment()?;
    let header = header(entries, tensors, alignment)?;
    output::write(path, |sink| {
        sink.put(&header)?;
        sink.pad(alignment)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let start = sink.written();
            fill(i, sink)?;
            check_size(tensor, sink.written() - start)?;
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

fn header(entries: &Entries, tensors: &[NewTensor], alignment: u64) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.list.len() as u64).to_le_bytes());
    for (key, encoded) in &entries.list {
        put_name(&mut out, "key", key)?;
        out.extend_from_slice(encoded);
    }
    refuse_duplicates(tensors)?;
    let mut offset = 0u64;
    for tensor in tensors {
        put_name(&mut out, "tensor", &tensor.name)?;
        let bytes = put_info(&mut out, tensor, offset)
            .map_err(|problem| Error::Argument(format!("tensor `{}`: {problem}", shown(&tensor.name))))?;
        offset += bytes.next_multiple_of(alignment);
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
