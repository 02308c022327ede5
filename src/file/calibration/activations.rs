//! Activations and results as safetensors files or streams of one f32 matrix; activations also as
//! NumPy's `.npy`.

use crate::error::{Error, Result};
use crate::file::container::npy;
use crate::file::container::output::{self, Sink};
use crate::file::container::safetensors;
use crate::file::container::safetensors_write::{self, NewTensor};
use crate::file::container::source::{OpenOptions, Source, read_up_to};
use crate::file::container::tensors::TensorInfo;
use crate::file::model::Model;
use bytes::Bytes;
use std::io::{Read, Write};
use std::path::Path;

/// Activations `x[n, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Rows: the batch.
    pub n: usize,
    /// Columns: the inputs of the weight.
    pub k: usize,
    /// `n * k` values, row by row.
    pub data: Vec<f32>,
}

/// Reads activations from a safetensors file with one tensor, or one named `x`: F32, F16 or BF16,
/// `[n, k]` or `[k]`; or from an array of float32 or float16 that NumPy saved as `.npy`, which its
/// first bytes tell.
///
/// ```
/// # fn main() -> qmatmul::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let path = folder.path().join("x.safetensors");
/// qmatmul::file::write_f32(&path, "x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let x = qmatmul::file::read_activations(&path)?;
/// assert_eq!((x.n, x.k, x.data[3]), (2, 3, 4.0));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NotFound`] without such a tensor, [`Error::UnsupportedFormat`] and [`Error::Shape`] for
/// another type, order or number of dimensions, and those of [`Model::open`].
pub fn read_activations(path: &Path) -> Result<Batch> {
    if !path.is_dir() {
        let source = Source::open(path, false)?;
        if npy::is_one(&source)? {
            return from_npy(&source);
        }
    }
    from_model(&Model::open(path, &OpenOptions { mmap: false })?)
}

/// Reads activations from the bytes of such a file; `label` names them in errors.
///
/// # Errors
/// As [`read_activations`].
pub fn activations_from_bytes(label: &str, bytes: impl Into<Bytes>) -> Result<Batch> {
    let bytes = bytes.into();
    if bytes.starts_with(npy::MAGIC) {
        return from_npy(&Source::from_bytes(Path::new(label), bytes));
    }
    from_model(&Model::from_bytes(label, bytes)?)
}

/// Reads activations from a stream of such a file, and no further than its header says; `label`
/// names it in errors.
///
/// # Errors
/// As [`read_activations`].
pub fn activations_from_stream(label: &str, from: &mut dyn Read) -> Result<Batch> {
    let path = Path::new(label);
    let mut head = vec![];
    read_up_to(path, from, &mut head, npy::MAGIC.len() as u64)?;
    let mut whole = head.as_slice().chain(from);
    let bytes = if head == npy::MAGIC {
        npy::read_stream(path, &mut whole)?
    } else {
        safetensors::read_stream(path, &mut whole)?
    };
    activations_from_bytes(label, bytes)
}

fn from_npy(source: &Source) -> Result<Batch> {
    let npy::Array { shape, data } = npy::read(source)?;
    match shape[..] {
        [k] => Ok(Batch { n: 1, k, data }),
        [n, k] => Ok(Batch { n, k, data }),
        _ => {
            let what = format!("{}: activations", source.label());
            Err(Error::shape(what, "[n, k] or [k]", format!("{shape:?}")))
        }
    }
}

fn from_model(model: &Model) -> Result<Batch> {
    let info = one_tensor(model)?;
    let plain = info.dtype.format().filter(|_| matches!(info.dtype.name(), "F32" | "F16" | "BF16"));
    if plain.is_none() {
        return Err(Error::UnsupportedFormat {
            tensor: info.name.clone(),
            format: info.dtype.name().into(),
            supported: "F32, F16, BF16 for activations".into(),
        });
    }
    if !matches!(info.shape.len(), 1 | 2) {
        let what = format!("tensor `{}`: activations", info.name);
        return Err(Error::shape(what, "[n, k] or [k]", format!("{:?}", info.shape)));
    }
    let tensor = model.tensor(info)?;
    Ok(Batch { n: tensor.rows(), k: tensor.cols(), data: tensor.dequantize() })
}

fn one_tensor(model: &Model) -> Result<&TensorInfo> {
    if let [only] = model.tensors() {
        return Ok(only);
    }
    let named = model.tensors().iter().find(|t| t.name == "x");
    named.ok_or_else(|| Error::NotFound {
        file: model.path().display().to_string(),
        what: "tensor",
        name: "x".into(),
        hint: format!("; it holds {} tensors, and one alone could have any name", model.tensors().len()),
    })
}

/// Writes a safetensors file with one f32 tensor; the file appears only when it is whole.
///
/// # Errors
/// [`Error::Shape`] if `data` does not have the elements of `shape`, [`Error::Io`].
pub fn write_f32(path: &Path, name: &str, shape: &[usize], data: &[f32]) -> Result<()> {
    let header = header(name, shape, data)?;
    output::write(path, |sink| put(sink, &header, data))
}

/// Writes the same bytes to a stream; `label` names it in errors.
///
/// # Errors
/// As [`write_f32`].
pub fn write_f32_to(
    label: &str,
    to: &mut dyn Write,
    name: &str,
    shape: &[usize],
    data: &[f32],
) -> Result<()> {
    let header = header(name, shape, data)?;
    let mut sink = Sink::new(Path::new(label), to);
    put(&mut sink, &header, data)?;
    sink.finish()
}

fn header(name: &str, shape: &[usize], data: &[f32]) -> Result<String> {
    let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if elements != Some(data.len()) {
        return Err(Error::shape(format!("tensor `{name}`: values"), format!("{shape:?}"), data.len()));
    }
    let tensor = NewTensor { name: name.into(), dtype: "F32".into(), shape: shape.into() };
    Ok(safetensors_write::header(None, &[tensor])?.0)
}

fn put(sink: &mut Sink<'_>, header: &str, data: &[f32]) -> Result<()> {
    safetensors_write::put_header(sink, header)?;
    for chunk in data.chunks(1 << 14) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
        sink.put(&bytes)?;
    }
    Ok(())
}
