//! Encodes the weights of a model into a packed format, tensor by tensor, as a GGUF file.

use crate::error::{Error, Result};
use crate::file::container::gguf::Value;
use crate::file::container::gguf_write::{self, Destination, Entries, NewTensor};
use crate::file::container::output::Sink;
use crate::file::names::shown;
use crate::file::selection;
use crate::file::{DType, Kind, Model, TensorInfo};
use crate::format::{Format, Recipe};
use crate::tensor::PackedTensor;

/// Values decoded at a time: a row of any model, and 16 MiB of f32.
const CHUNK: u64 = 4 << 20;

/// The version of ggml's quantized formats, which files declare.
const QUANTIZATION_VERSION: u32 = 2;

/// What [`quantize`] did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
}

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// How it was stored.
    pub from: DType,
    /// How it is stored now.
    pub to: DType,
    /// Its columns that are written in 16 bits besides.
    pub kept_columns: usize,
    /// Why it was copied unchanged: "172 columns are not a multiple of 32". `None` if it was
    /// encoded.
    pub why_not: Option<String>,
}

/// Writes `model` to the GGUF file `out`, or to parts of it, with its weight matrices encoded by `recipe`; all else is
/// copied unchanged.
///
/// Weight matrices are the F64, F32, F16 and BF16 tensors of two or more dimensions that are named
/// `…weight`, except norms,
/// position and token-type embeddings and expert gates. F64 is rounded to f32 first. Names and
/// metadata stay as they are. `progress` is called before each tensor with its position and itself.
///
/// # Errors
/// [`Error::Argument`] if the format has no encoder or place in GGUF files, or not the choice that
/// the recipe makes, or `out` is a file of the model, [`Error::UnsupportedFormat`] for a tensor
/// whose type GGUF cannot hold, [`Error::NonFinite`] for a weight that is NaN or infinite, and
/// those of [`gguf_write::write`].
pub fn quantize<'a>(
    model: &Model,
    out: impl Into<Destination<'a>>,
    recipe: &Recipe,
    mut progress: impl FnMut(usize, &TensorInfo),
) -> Result<Report> {
    let format = recipe.format();
    if !format.has_encoder() || format.gguf_type.is_none() {
        return Err(Error::Argument(format!("{} cannot be written into a GGUF file", format.name)));
    }
    if let Some(fault) = recipe.fault() {
        return Err(Error::Argument(fault));
    }
    let out = out.into();
    let plan = model.tensors().iter().map(|t| plan(t, format)).collect::<Result<Vec<_>>>()?;
    let new: Vec<_> = model.tensors().iter().zip(&plan).map(|(t, plan)| new_tensor(t, plan)).collect();
    let report = report(model, plan);
    let entries = entries(model, format);
    out.files(&entries, &new)?.iter().try_for_each(|file| model.refuse_as_output(file))?;
    gguf_write::write(out, &entries, &new, |i, sink| {
        let tensor = &model.tensors()[i];
        progress(i, tensor);
        match report.tensors[i].why_not {
            Some(_) => copy(model, tensor, sink),
            None => encode(model, tensor, recipe, sink),
        }
    })?;
    Ok(report)
}

fn plan(tensor: &TensorInfo, format: &'static Format) -> Result<TensorReport> {
    let why_not = selection::GGUF.why_not(tensor, format);
    let to = if why_not.is_some() { tensor.dtype } else { DType::Supported(format) };
    if to.gguf_type().is_none() {
        return Err(Error::UnsupportedFormat {
            tensor: shown(&tensor.name),
            format: format!("{to}, for which GGUF has no type"),
            supported: "F64, F32, F16, BF16, I64, I32, I16, I8".into(),
        });
    }
    Ok(TensorReport { name: tensor.name.clone(), from: tensor.dtype, to, kept_columns: 0, why_not })
}

fn new_tensor(tensor: &TensorInfo, plan: &TensorReport) -> NewTensor {
    NewTensor { name: tensor.name.clone(), dtype: plan.to, shape: tensor.shape.clone() }
}

fn report(model: &Model, tensors: Vec<TensorReport>) -> Report {
    let size = |t: &TensorInfo, plan: &TensorReport| plan.to.bytes_of_rows(&t.shape).unwrap_or(0);
    let bytes_after = model.tensors().iter().zip(&tensors).map(|(t, plan)| size(t, plan)).sum();
    Report { bytes_before: model.tensors().iter().map(|t| t.bytes).sum(), bytes_after, tensors }
}

/// Rows that are decoded at a time.
fn chunk_rows(tensor: &TensorInfo) -> u64 {
    (CHUNK / tensor.cols().max(1)).max(1)
}

fn encode(model: &Model, tensor: &TensorInfo, recipe: &Recipe, sink: &mut Sink<'_>) -> Result<()> {
    let mut start = 0;
    while start < tensor.rows() {
        let end = tensor.rows().min(start + chunk_rows(tensor));
        let rows = model.rows(tensor, start..end)?;
        let packed =
            PackedTensor::encode(rows.name(), [rows.rows(), rows.cols()], &rows.dequantize(), recipe)
                .map_err(|error| shift(error, start * tensor.cols()))?;
        sink.put(&packed.data())?;
        start = end;
    }
    Ok(())
}

/// Counts the first bad value from the tensor's start, not the chunk's.
fn shift(error: Error, by: u64) -> Error {
    match error {
        Error::NonFinite { what, count, first } => Error::NonFinite { what, count, first: first + by },
        other => other,
    }
}

fn copy(model: &Model, tensor: &TensorInfo, sink: &mut Sink<'_>) -> Result<()> {
    let mut start = 0;
    while start < tensor.bytes {
        let end = tensor.bytes.min(start + 4 * CHUNK);
        sink.put(&model.range(tensor, start..end)?)?;
        start = end;
    }
    Ok(())
}

fn entries(model: &Model, format: &Format) -> Entries {
    let mut entries = match model.kind() {
        Kind::Gguf(_) => Entries::from(model.gguf()),
        Kind::Safetensors | Kind::Sharded => checkpoint_entries(model),
    };
    entries.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    if let Some(file_type) = file_type(format) {
        entries.set("general.file_type", Value::U32(file_type));
    }
    entries
}

/// What a checkpoint's config.json says about the model as a whole.
fn checkpoint_entries(model: &Model) -> Entries {
    let text = |key: &str| model.config().and_then(|c| c.get(key)).and_then(|v| v.as_str());
    let folder = || model.files().next().and_then(|(path, _)| path.parent()?.file_name()?.to_str());
    let mut entries = Entries::new();
    entries.set_str("general.architecture", text("model_type").unwrap_or("unknown"));
    if let Some(name) = text("_name_or_path").filter(|name| !name.is_empty()).or_else(folder) {
        entries.set_str("general.name", name);
    }
    entries
}

/// llama.cpp's number for a file mostly in `format`.
fn file_type(format: &Format) -> Option<u32> {
    const NUMBERS: &[(&str, u32)] = &[
        ("F32", 0),
        ("F16", 1),
        ("Q4_0", 2),
        ("Q4_1", 3),
        ("Q8_0", 7),
        ("Q5_0", 8),
        ("Q5_1", 9),
        ("Q2_K", 10),
        ("Q3_K", 12),
        ("Q4_K", 15),
        ("Q5_K", 17),
        ("Q6_K", 18),
        ("IQ2_XXS", 19),
        ("IQ2_XS", 20),
        ("IQ3_XXS", 23),
        ("IQ1_S", 24),
        ("IQ4_NL", 25),
        ("IQ3_S", 26),
        ("IQ2_S", 28),
        ("IQ4_XS", 30),
        ("IQ1_M", 31),
        ("BF16", 32),
        ("TQ1_0", 36),
        ("TQ2_0", 37),
        ("MXFP4", 38),
    ];
    NUMBERS.iter().find(|(name, _)| *name == format.name).map(|(_, number)| *number)
}
