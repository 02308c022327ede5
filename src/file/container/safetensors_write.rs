//! Writes safetensors files, tensor by tensor.

use crate::error::{Error, Result};
use crate::file::container::output::{self, NewFile, Sink};
use crate::file::names::shown;
use ::safetensors::Dtype;
use ::safetensors::tensor::{Metadata, TensorInfo as Entry};
use std::collections::HashMap;

/// A tensor of a file to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// As safetensors calls it: `U8`, `F32`.
    pub dtype: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

impl NewTensor {
    fn dtype(&self) -> Result<Dtype> {
        let unknown = |_| Error::UnsupportedFormat {
            tensor: shown(&self.name),
            format: format!("{}, for which safetensors has no type", self.dtype),
            supported: "F64, F32, F16, BF16, I64, I32, I16, I8, U8".into(),
        };
        serde_json::from_value(self.dtype.as_str().into()).map_err(unknown)
    }

    /// Bytes of one element, by which files are sorted: readers view a tensor where it lies.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if safetensors has no such type.
    pub fn alignment(&self) -> Result<usize> {
        Ok(self.dtype()?.bitsize().div_ceil(8))
    }

    /// Bytes of the tensor.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if safetensors has no such type, [`Error::Shape`] if there is
    /// no such number.
    pub fn bytes(&self) -> Result<usize> {
        let bits = self.shape.iter().try_fold(self.dtype()?.bitsize(), |bits, dim| bits.checked_mul(*dim));
        let what = || format!("tensor `{}`: bytes", shown(&self.name));
        bits.map(|bits| bits / 8).ok_or_else(|| Error::shape(what(), "a number", format!("{:?}", self.shape)))
    }
}

/// Writes the file `to`: `fill` puts the bytes of all tensors, in their order. The file appears
/// only when it is whole.
///
/// # Errors
/// [`Error::Argument`] if a name occurs twice, [`Error::UnsupportedFormat`] for a type that
/// safetensors does not have, [`Error::Shape`] if `fill` puts another number of bytes,
/// [`Error::Output`], or what `fill` returns.
pub fn write<'a>(
    to: impl Into<NewFile<'a>>,
    metadata: Option<HashMap<String, String>>,
    tensors: &[NewTensor],
    fill: impl FnOnce(&mut Sink<'_>) -> Result<()>,
) -> Result<()> {
    let (header, bytes) = header(metadata, tensors)?;
    let whole = (8 + header.len() as u64).saturating_add(bytes as u64);
    let to = NewFile { bytes: Some(whole), ..to.into() };
    let (path, mut fill) = (to.path, Some(fill));
    output::write_all(&[to], |_, sink| {
        put_header(sink, &header)?;
        let start = sink.written();
        fill.take().map_or(Ok(()), |fill| fill(sink))?;
        match sink.written() - start {
            got if got == bytes as u64 => Ok(()),
            got => Err(Error::shape(format!("bytes of `{}`", path.display()), bytes, got)),
        }
    })
}

/// The length of the header, and the header.
pub(crate) fn put_header(sink: &mut Sink<'_>, header: &str) -> Result<()> {
    sink.put(&(header.len() as u64).to_le_bytes())?;
    sink.put(header.as_bytes())
}

/// The header of these tensors, and the bytes that they take.
pub(crate) fn header(
    metadata: Option<HashMap<String, String>>,
    tensors: &[NewTensor],
) -> Result<(String, usize)> {
    let mut entries = Vec::with_capacity(tensors.len());
    let (mut names, mut end) = (std::collections::HashSet::new(), 0usize);
    for tensor in tensors {
        if !names.insert(&*tensor.name) {
            return Err(Error::Argument(format!("tensor `{}` is given twice", shown(&tensor.name))));
        }
        let data_offsets = (end, end.saturating_add(tensor.bytes()?));
        end = data_offsets.1;
        entries.push((
            tensor.name.clone(),
            Entry { dtype: tensor.dtype()?, shape: tensor.shape.clone(), data_offsets },
        ));
    }
    let json = Metadata::new(metadata, entries).ok().and_then(|m| serde_json::to_string(&m).ok());
    let json = json.ok_or_else(|| {
        let names: Vec<_> = tensors.iter().take(3).map(|t| shown(&t.name)).collect();
        Error::Argument(format!("safetensors cannot hold tensors like `{}`", names.join("`, `")))
    })?;
    // Spaces at the end keep the data at a multiple of 8 bytes, as the format asks. (A width of
    // `format!` has 16 bits.)
    let spaces = json.len().next_multiple_of(8) - json.len();
    Ok((json + &" ".repeat(spaces), end))
}
