//! Encodes the weights of a model into a packed format, tensor by tensor, as a GGUF file.

use crate::error::{Error, Result};
use crate::file::container::gguf::Value;
use crate::file::container::gguf_write::{self, Destination, Entries, NewTensor};
use crate::file::container::output::Sink;
use crate::file::names::shown;
use crate::file::overview::FILE_TYPES;
use crate::file::scheme::conv1d;
use crate::file::selection::{self, Fate, OutputMatrix};
use crate::file::transformers::model_type;
use crate::file::{DType, Kind, Model, TensorInfo};
use crate::format::Recipe;
use crate::tensor::{PackedTensor, SquaredError};
use std::ops::Range;

/// Values decoded at a time: a row of any model, and 16 MiB of f32.
const CHUNK: u64 = 4 << 20;

/// The version of ggml's quantized formats, which files declare.
const QUANTIZATION_VERSION: u32 = 2;

/// What [`quantize`] and [`quantize_checkpoint`](super::quantize_checkpoint()) do only if they are
/// told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantizeOptions {
    /// GGUF: give the output matrix the format of all others, also where it is the embedding, too.
    /// Otherwise it becomes Q8_0 in a file of a packed format.
    pub pure: bool,
    /// GGUF: write the weights of a checkpoint under the names that they have there, without
    /// hyper-parameters and tokenizer. Checkpoints of bitsandbytes: encode the matrices of a model
    /// that transformers does not know. Only this crate reads what becomes of them.
    pub bare: bool,
    /// GGUF: encode weights that are packed already, from what they decode to.
    pub allow_requantize: bool,
}

/// What [`quantize`] did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// What whoever uses the file should know, a sentence each.
    pub warnings: Vec<String>,
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
    /// Why it is not in the format that was asked for: "172 columns are not a multiple of 32".
    /// `None` if it was encoded.
    pub left_because: Option<String>,
    /// What encoding changed: Σ (ŵ − w)² / Σ w² of the weights as the new bytes decode, ŵ, and as
    /// the old ones do, w; columns that are written in 16 bits besides count as they are encoded.
    /// `None` if it was copied.
    pub error: Option<f64>,
}

/// Writes `model` to the GGUF file `out`, or to parts of it, with its weight matrices encoded by
/// `recipe`; all else is copied unchanged.
///
/// Weight matrices are the F64, F32, F16 and BF16 tensors of two or more dimensions that are named
/// `…weight`, except those that llama.cpp needs as they are: norms, expert gates, position and
/// token-type embeddings, convolutions, the small matrices of RWKV, and others. F64 is rounded to
/// f32 first. Rows that are no whole number of blocks become F16. The output matrix, or the
/// embedding if there is no other, becomes Q8_0 in a file of a packed format unless
/// [`QuantizeOptions::pure`] is set. Names and metadata stay as they are, except that
/// `general.file_type` says what most weights of the file are. `progress` is called before each
/// tensor with its position and itself.
///
/// # Errors
/// [`Error::Argument`] if the format has no encoder or place in GGUF files, or not the choice that
/// the recipe makes, if `out` is a file of the model, if nothing of the model can be encoded, if a
/// weight is packed already or the model is a checkpoint and `options` do not allow for it,
/// [`Error::UnsupportedFormat`] for a tensor whose type GGUF cannot hold, [`Error::NonFinite`] for
/// a weight that is NaN or infinite, and those of [`gguf_write::write`].
pub fn quantize<'a>(
    model: &Model,
    out: impl Into<Destination<'a>>,
    recipe: &Recipe,
    options: &QuantizeOptions,
    mut progress: impl FnMut(usize, &TensorInfo),
) -> Result<Report> {
    let job = Job { model, recipe, options };
    job.check()?;
    let output = OutputMatrix::of(model);
    let plan = model.tensors().iter().map(|t| job.plan(t, output.as_ref())).collect::<Result<Vec<_>>>()?;
    job.check_plan(&plan)?;
    let written = written(model);
    let new: Vec<_> = written.iter().map(|part| part.new_tensor(model, &plan)).collect();
    let entries = job.entries(&plan, output.as_ref());
    let mut report = job.report(plan, output.as_ref());
    let mut errors = vec![None; report.tensors.len()];
    let out = out.into();
    out.files(&entries, &new)?.iter().try_for_each(|file| model.refuse_as_output(file))?;
    gguf_write::write(out, &entries, &new, |i, sink| {
        let at = match written[i] {
            Written::Weight(at) => at,
            Written::Part(part) => return copy(model, part, sink),
        };
        let (tensor, plan) = (&model.tensors()[at], &report.tensors[at]);
        progress(at, tensor);
        if is_copied(tensor, plan) {
            return copy(model, model.stored(tensor), sink);
        }
        let error = match plan.to.format() {
            Some(to) if to != recipe.format() => encode(model, tensor, &Recipe::new(to), sink)?,
            _ => encode(model, tensor, recipe, sink)?,
        };
        errors[at] = Some(error.nmse());
        Ok(())
    })?;
    report.tensors.iter_mut().zip(errors).for_each(|(tensor, error)| tensor.error = error);
    Ok(report)
}

/// One tensor of the output.
enum Written<'a> {
    /// That of this position in the model, encoded or copied.
    Weight(usize),
    /// What says how to read the weight before it, copied as that is: its scale.
    Part(&'a TensorInfo),
}

impl Written<'_> {
    fn new_tensor(&self, model: &Model, plan: &[TensorReport]) -> NewTensor {
        let (tensor, dtype) = match self {
            Self::Weight(at) if is_copied(&model.tensors()[*at], &plan[*at]) => {
                (model.stored(&model.tensors()[*at]), plan[*at].to)
            }
            Self::Weight(at) => (&model.tensors()[*at], plan[*at].to),
            Self::Part(part) => (*part, part.dtype),
        };
        NewTensor { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() }
    }
}

/// What is written of the model, in order. The scale that a GGUF holds beside a weight stays there.
fn written(model: &Model) -> Vec<Written<'_>> {
    let mut all = vec![];
    for (at, tensor) in model.tensors().iter().enumerate() {
        all.push(Written::Weight(at));
        if tensor.is_stored_alone() && tensor.module.is_some() {
            all.extend(model.parts(tensor).into_iter().skip(1).map(Written::Part));
        }
    }
    all
}

/// True if a tensor is written as its file has it.
fn is_copied(tensor: &TensorInfo, plan: &TensorReport) -> bool {
    plan.to == plan.from && tensor.is_stored_alone()
}

struct Job<'a> {
    model: &'a Model,
    recipe: &'a Recipe,
    options: &'a QuantizeOptions,
}

impl Job<'_> {
    fn check(&self) -> Result<()> {
        let format = self.recipe.format();
        if !format.has_encoder() || format.gguf_type.is_none() {
            return Err(Error::Argument(format!("{} cannot be written into a GGUF file", format.name)));
        }
        if let Some(fault) = self.recipe.fault() {
            return Err(Error::Argument(fault));
        }
        self.check_bare()
    }

    fn check_bare(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Argument(format!("{}: {what}", self.model.path().display())));
        match self.model.kind() {
            Kind::Gguf(_) if self.options.bare => {
                refuse("--bare has no effect on a GGUF, whose names and keys are kept".into())
            }
            Kind::Gguf(_) => Ok(()),
            Kind::Safetensors | Kind::Sharded if !self.options.bare => refuse(
                "a GGUF for other tools needs other names, hyper-parameters and a tokenizer, which are not \
                 converted here; --bare writes the weights alone, for qmatmul only"
                    .into(),
            ),
            Kind::Safetensors | Kind::Sharded => match model_type(self.model) {
                Some(name) if conv1d::MODELS.contains(&name) => refuse(format!(
                    "{name} models keep their layers transposed (Conv1D), which a GGUF cannot say"
                )),
                _ => Ok(()),
            },
        }
    }

    fn plan(&self, tensor: &TensorInfo, output: Option<&OutputMatrix>) -> Result<TensorReport> {
        let is_output = output.is_some_and(|output| output.name == tensor.name);
        let format = match self.recipe.format() {
            format if is_output && !self.options.pure => OutputMatrix::format(format),
            format => format,
        };
        let fate = selection::in_gguf(tensor, format, self.options.allow_requantize)?;
        let (to, left_because) = match fate {
            Fate::Encoded => (DType::Supported(format), None),
            Fate::Instead(format, reason) => (DType::Supported(format), Some(reason)),
            Fate::Copied(reason) => (tensor.dtype, Some(reason)),
        };
        if to.gguf_type().is_none() {
            return Err(Error::UnsupportedFormat {
                tensor: shown(&tensor.name),
                format: format!("{to}, for which GGUF has no type"),
                supported: "F64, F32, F16, BF16, I64, I32, I16, I8".into(),
            });
        }
        self.check_kept(tensor)?;
        Ok(TensorReport {
            name: tensor.name.clone(),
            from: tensor.dtype,
            to,
            kept_columns: 0,
            left_because,
            error: None,
        })
    }

    /// Refuses a weight some of whose columns lie beside it: they would be lost.
    fn check_kept(&self, tensor: &TensorInfo) -> Result<()> {
        if tensor.module.as_ref().is_none_or(|module| !module.has_kept_columns()) {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "tensor `{}` has columns that are kept in 16 bits, for which GGUF has no place",
            shown(&tensor.name)
        )))
    }

    /// Refuses a run that encodes nothing: its output would be a copy under another name. A
    /// checkpoint becomes another file also where its matrices are of the type already.
    fn check_plan(&self, plan: &[TensorReport]) -> Result<()> {
        let wanted = DType::Supported(self.recipe.format());
        let mut all = self.model.tensors().iter().zip(plan);
        let is_matrix = |tensor: &TensorInfo| self.options.bare && tensor.shape.len() > 1;
        if all.any(|(tensor, t)| t.left_because.is_none() || t.to == wanted && is_matrix(tensor)) {
            return Ok(());
        }
        let format = self.recipe.format().name;
        let why = plan.iter().find(|t| t.to != t.from || t.from == wanted);
        let why = why.or(plan.first()).map_or("it has no tensors".into(), |t| {
            let why = t.left_because.as_deref().unwrap_or_default();
            format!("`{}`, for example: {why}", shown(&t.name))
        });
        let path = self.model.path().display();
        Err(Error::Argument(format!("{path}: nothing in it can be encoded into {format} ({why})")))
    }

    fn entries(&self, plan: &[TensorReport], output: Option<&OutputMatrix>) -> Entries {
        let mut entries = match self.model.kind() {
            Kind::Gguf(_) => Entries::from(self.model.gguf()),
            Kind::Safetensors | Kind::Sharded => checkpoint_entries(self.model),
        };
        entries.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        match self.most_frequent(plan, output).and_then(file_type) {
            Some(file_type) => entries.set("general.file_type", Value::U32(file_type)),
            None => entries.remove("general.file_type"),
        }
        entries
    }

    /// The type of most weights of matrices; of the output matrix only if there are no others, as
    /// llama.cpp names its files.
    fn most_frequent(&self, plan: &[TensorReport], output: Option<&OutputMatrix>) -> Option<DType> {
        let matrices = || {
            let all = self.model.tensors().iter().zip(plan);
            all.filter(|(tensor, _)| tensor.shape.len() > 1).map(|(tensor, plan)| (tensor.elements(), plan))
        };
        let others = matrices().filter(|(_, t)| output.is_none_or(|output| output.name != t.name));
        most(others).or_else(|| most(matrices()))
    }

    fn report(&self, tensors: Vec<TensorReport>, output: Option<&OutputMatrix>) -> Report {
        let size = |t: &TensorInfo, plan: &TensorReport| plan.to.bytes_of_rows(&t.shape).unwrap_or(0);
        let bytes_after = self.model.tensors().iter().zip(&tensors).map(|(t, plan)| size(t, plan)).sum();
        Report {
            bytes_before: self.model.tensors().iter().map(|t| t.bytes).sum(),
            bytes_after,
            warnings: self.warnings(&tensors, output),
            tensors,
        }
    }

    fn warnings(&self, plan: &[TensorReport], output: Option<&OutputMatrix>) -> Vec<String> {
        let tied = output.filter(|output| output.tied && !selection::is_encoder(self.model));
        let tied = tied.and_then(|output| plan.iter().find(|t| t.name == output.name));
        let mut warnings = vec![];
        // Nothing is to be said where it becomes what was asked for.
        if let Some(t) = tied.filter(|t| t.to != t.from && t.to.format() != Some(self.recipe.format())) {
            let (name, format) = (shown(&t.name), self.recipe.format().name);
            warnings.push(format!(
                "`{name}` is the output matrix, too: it becomes {}; --pure makes it {format}",
                t.to
            ));
        }
        if self.options.bare {
            warnings.push("only qmatmul reads the file: it has no architecture and no tokenizer".into());
        }
        warnings
    }
}

/// The type of most weights, of those that come in parts the first of the largest.
fn most<'a>(tensors: impl Iterator<Item = (u64, &'a TensorReport)>) -> Option<DType> {
    let mut sums: Vec<(DType, u128)> = vec![];
    for (weights, tensor) in tensors {
        match sums.iter_mut().find(|(to, _)| *to == tensor.to) {
            Some((_, sum)) => *sum += u128::from(weights),
            None => sums.push((tensor.to, weights.into())),
        }
    }
    let largest = sums.iter().map(|(_, sum)| *sum).max()?;
    sums.iter().find(|(_, sum)| *sum == largest).map(|(to, _)| *to)
}

/// Rows that are decoded at a time.
fn chunk_rows(tensor: &TensorInfo) -> u64 {
    (CHUNK / tensor.cols().max(1)).max(1)
}

/// Writes a tensor encoded; what that changed.
fn encode(model: &Model, tensor: &TensorInfo, recipe: &Recipe, sink: &mut Sink<'_>) -> Result<SquaredError> {
    // What lies in several tensors is read as a whole, once.
    let whole = if tensor.is_stored_alone() { None } else { Some(model.tensor(tensor)?) };
    let (mut start, mut error) = (0, SquaredError::default());
    while start < tensor.rows() {
        let end = tensor.rows().min(start + chunk_rows(tensor));
        let rows = match &whole {
            Some(whole) => whole.select_rows(&(start as usize..end as usize).collect::<Vec<_>>())?,
            None => rows(model, tensor, start..end)?,
        };
        let weights = rows.dequantize();
        let packed = PackedTensor::encode(rows.name(), [rows.rows(), rows.cols()], &weights, recipe)
            .map_err(|error| shift(error, start * tensor.cols()))?;
        error = error.and(packed.error(&weights)?);
        sink.put(&packed.data())?;
        start = end;
    }
    Ok(error)
}

/// Some rows as the file has them. A scale that a GGUF holds in a tensor beside them stays there,
/// so it must not go into the weights, too.
fn rows(model: &Model, tensor: &TensorInfo, rows: Range<u64>) -> Result<PackedTensor> {
    let tensor = model.stored(tensor);
    let Some(format) = tensor.dtype.format() else { return model.rows(tensor, rows) };
    let row_bytes = tensor.bytes.checked_div(tensor.rows()).unwrap_or(0);
    let bytes = model.range(tensor, row_bytes * rows.start..row_bytes * rows.end)?;
    let [count, cols] = [(rows.end - rows.start) as usize, tensor.cols() as usize];
    PackedTensor::new(&*tensor.name, format, count, cols, bytes)
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

/// What a checkpoint's config.json says about the model as a whole. No architecture: tools would
/// take the file for a model of it, with other names and keys.
fn checkpoint_entries(model: &Model) -> Entries {
    let text = |key: &str| model.config().and_then(|c| c.get(key)).and_then(|v| v.as_str());
    let folder = || model.files().next().and_then(|(path, _)| path.parent()?.file_name()?.to_str());
    let mut entries = Entries::new();
    if let Some(name) = text("_name_or_path").filter(|name| !name.is_empty()).or_else(folder) {
        entries.set_str("general.name", name);
    }
    entries
}

/// llama.cpp's number for a file mostly of one type: that of its name, or of the mix that is named
/// after it.
fn file_type(dtype: DType) -> Option<u32> {
    let number = |mix: &str| {
        let name = format!("{}{mix}", dtype.name());
        FILE_TYPES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    };
    ["", "_M", "_MOE"].into_iter().find_map(number)
}
