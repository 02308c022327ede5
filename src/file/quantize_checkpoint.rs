//! Encodes the linear layers of a safetensors checkpoint into NF4, FP4 or INT8, as a folder that
//! transformers and bitsandbytes open.

use crate::error::{Error, Result};
use crate::file::calibration::outlier_columns::Chosen;
use crate::file::container::output::{self, NewFile, Sink, same_file};
use crate::file::container::safetensors_write::{self, NewTensor};
use crate::file::names::shown;
use crate::file::quantize::{QuantizeOptions, Report, TensorReport};
use crate::file::scheme::outlier_columns::{LIST, WEIGHT as KEPT_WEIGHT};
use crate::file::selection;
use crate::file::target::Target;
use crate::file::transformers::{Architecture, model_type};
use crate::file::{DType, Kind, Model, TensorInfo};
use crate::format::Recipe;
use crate::format::storage::Part;
use crate::tensor::PackedTensor;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Encodes weights `[rows, cols]` of a name and a shape by a recipe: [`PackedTensor::encode`], or a
/// device's twin of it.
pub type Encode<'a> = &'a dyn Fn(&str, [usize; 2], &[f32], &Recipe) -> Result<PackedTensor>;

/// Writes the checkpoint `model` into the folder `out` with its linear layers as `target` says; all
/// else, files beside it among it, is copied.
///
/// Linear layers are those that transformers loads as quantized, by the `model_type` of the model's
/// config.json: F32, F16 and BF16 matrices, no embeddings, routers, stacked experts and output
/// heads. With [`QuantizeOptions::bare`] they are all matrices that are named `…weight`, except
/// those that are named like embeddings, norms and output heads. Everything goes into one file,
/// `model.safetensors`, which appears when all
/// else is written, so that what fails or stops leaves no checkpoint behind. `progress` is called
/// before each tensor.
///
/// # Errors
/// [`Error::Argument`] if `model` is no safetensors checkpoint or quantized already, if it is not
/// known which layers of it transformers quantizes and `options` do not allow for that, if nothing
/// of it can be encoded, the target is
/// none, or `out` is no folder or holds weights already, or another file of a name that is written;
/// [`Error::NonFinite`] for a weight that is NaN or infinite; [`Error::Io`].
pub fn quantize_checkpoint(
    model: &Model,
    out: &Path,
    target: &Target,
    options: &QuantizeOptions,
    encode: Encode,
    mut progress: impl FnMut(usize, &TensorInfo),
) -> Result<Report> {
    let job = Job::new(model, target, options, encode)?;
    let others = others(model)?;
    let plan: Vec<Item> = model.tensors().iter().map(|t| job.item(t)).collect::<Result<_>>()?;
    job.check_plan(&plan)?;
    target.check_kept(plan.iter().map(Item::kept_columns).sum())?;
    if matches!(target, Target::Int8 { .. }) {
        check_kept_columns(model, &plan)?;
    }
    let order = order(&plan)?;
    let tensors: Vec<NewTensor> = order.iter().map(|at| plan[at.item].tensors[at.part].clone()).collect();
    let config = config(&job, &plan)?;
    check_target(model, out, &others, &config)?;
    // The folder is made when all is encoded, so that what is stopped before leaves none behind.
    let (weights, waits_in) = (out.join(WEIGHTS), output::nearest_folder(out));
    let to = NewFile { waits_in: Some(waits_in), ..NewFile::from(&weights) };
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let (mut is_new, mut errors) = (false, vec![]);
    let written = safetensors_write::write(to, Some(metadata), &tensors, |sink| {
        errors = job.fill(sink, &plan, &mut progress, waits_in)?;
        is_new = make_folder(model, out, &others, &config)?;
        copy_others(model, &others, out)?;
        output::write(&out.join(CONFIG), |sink| sink.put(config.as_bytes()))
    });
    if written.is_err() && is_new {
        clear(out, &others);
    }
    written?;
    Ok(report(&job, &plan, &errors))
}

/// Makes the folder and those above it; true if it was not there, and may be taken away again. A
/// path through another that was missing leads somewhere only now, so the target is looked at once
/// more.
fn make_folder(model: &Model, out: &Path, others: &[OsString], config: &str) -> Result<bool> {
    let parent = out.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(Error::output("creating", out))?;
    let is_new = fs::create_dir(out).is_ok();
    fs::create_dir_all(out).map_err(Error::output("creating", out))?;
    let checked = check_target(model, out, others, config);
    if checked.is_err() && is_new {
        let _ = fs::remove_dir(out);
    }
    checked.map(|()| is_new)
}

/// Takes away what was written into a new folder, and the folder, unless somebody else has finished
/// a checkpoint there. The error that led here says more than one of this would.
fn clear(out: &Path, others: &[OsString]) {
    if out.join(WEIGHTS).exists() {
        return;
    }
    for name in others.iter().map(OsString::as_os_str).chain([OsStr::new(CONFIG)]) {
        let _ = fs::remove_file(out.join(name));
    }
    let _ = fs::remove_dir(out);
}

struct Job<'a> {
    model: &'a Model,
    target: &'a Target,
    /// What transformers does with the model, unless it is encoded by names alone.
    known: Option<Architecture>,
    encode: Encode<'a>,
}

/// The file of all tensors.
const WEIGHTS: &str = "model.safetensors";
/// The file of the model's configuration.
const CONFIG: &str = "config.json";

/// One tensor of the model, and those that it becomes.
struct Item<'a> {
    info: &'a TensorInfo,
    tensors: Vec<NewTensor>,
    /// What it becomes, and what is kept of it besides; `left_because` otherwise.
    target: Option<(Target, Chosen)>,
    left_because: Option<String>,
}

impl Item<'_> {
    fn kept_columns(&self) -> usize {
        self.target.as_ref().map_or(0, |(_, chosen)| chosen.count())
    }

    /// The module of a matrix that stays as it is.
    fn left_module(&self) -> Option<&str> {
        let is_left = self.target.is_none() && self.info.shape.len() == 2;
        self.info.name.strip_suffix(".weight").filter(|_| is_left)
    }
}

/// A place in the file.
struct At {
    item: usize,
    part: usize,
}

impl<'a> Job<'a> {
    fn new(
        model: &'a Model,
        target: &'a Target,
        options: &QuantizeOptions,
        encode: Encode<'a>,
    ) -> Result<Self> {
        target.check()?;
        if matches!(model.kind(), Kind::Gguf(_)) {
            let path = model.path().display();
            return Err(Error::Argument(format!(
                "{path}: only a safetensors checkpoint becomes one of bitsandbytes"
            )));
        }
        check_source(model)?;
        let known = if options.bare { None } else { Some(Architecture::of_model(model)?) };
        Ok(Self { model, target, known, encode })
    }

    /// Refuses a run that encodes nothing, and a model about which transformers could not be told
    /// which layers it holds as they are.
    fn check_plan(&self, plan: &[Item]) -> Result<()> {
        let refuse = |what| Err(Error::Argument(format!("{}: {what}", self.model.path().display())));
        let name = model_type(self.model).unwrap_or_default();
        let unknown = plan.iter().filter_map(Item::left_module).find(|module| {
            let known = self.known.as_ref();
            known.is_some_and(|known| !known.knows(module))
        });
        if let Some(module) = unknown {
            let module = shown(module);
            return refuse(format!(
                "whether transformers quantizes `{module}` of a `{name}` model is not known"
            ));
        }
        if plan.iter().all(|item| item.target.is_none()) {
            let format = self.target.format().name;
            let of = self.known.as_ref().map(|_| format!(" of a `{name}` model")).unwrap_or_default();
            return refuse(format!("nothing in it can be encoded into {format}: it has no linear layer{of}"));
        }
        let skipped = self.skipped(plan);
        let encoded = plan.iter().filter(|item| item.target.is_some());
        let mut modules = encoded.filter_map(|item| item.info.name.strip_suffix(".weight"));
        let clash = modules.find_map(|module| {
            skipped.iter().find(|skip| is_skipped(module, skip)).map(|skip| (shown(module), shown(skip)))
        });
        clash.map_or(Ok(()), |(module, skip)| {
            refuse(format!("transformers cannot be told to load `{skip}` as it is and `{module}` quantized"))
        })
    }

    /// The modules that transformers must not load as quantized.
    fn skipped(&self, plan: &[Item]) -> Vec<String> {
        let left = plan.iter().filter_map(Item::left_module).map(experts_together);
        let heads = self.known.as_ref().map_or(&["lm_head"][..], |known| &known.heads);
        let mut skipped: Vec<_> = left.chain(heads.iter().copied()).map(str::to_owned).collect();
        skipped.sort_unstable();
        skipped.dedup();
        skipped
    }

    fn item<'t>(&self, info: &'t TensorInfo) -> Result<Item<'t>> {
        let left_because = selection::plain_in_checkpoint(info, self.known.as_ref());
        if left_because.is_some() {
            let copied = |t: &TensorInfo| NewTensor {
                name: t.name.clone(),
                dtype: t.dtype.name().into(),
                shape: t.shape.iter().map(|d| *d as usize).collect(),
            };
            let tensors = self.model.parts(info).into_iter().map(copied).collect();
            return Ok(Item { info, tensors, target: None, left_because });
        }
        let target = self.target.of(info);
        let new = |part: &Part| NewTensor {
            name: part.name(&info.name),
            dtype: part.dtype.into(),
            shape: part.shape.clone(),
        };
        let [rows, cols] = [info.rows() as usize, info.cols() as usize];
        let chosen = self.target.chosen(self.model, info)?;
        let headers = target.headers([rows, cols]).into_iter().chain(chosen.headers(rows));
        let tensors = headers.map(|part| new(&part)).collect();
        Ok(Item { info, tensors, target: Some((target, chosen)), left_because })
    }

    /// The bytes of the file in its order: all parts of a weight come in one go, so those that
    /// belong further behind wait in files of their own. What encoding changed, for each item.
    fn fill(
        &self,
        sink: &mut Sink<'_>,
        plan: &[Item],
        progress: &mut impl FnMut(usize, &TensorInfo),
        folder: &Path,
    ) -> Result<Vec<Option<f64>>> {
        let (mut later, mut errors) = (Later::new(folder)?, vec![None; plan.len()]);
        self.copy(sink, plan, 8)?;
        for (i, item) in plan.iter().enumerate() {
            progress(i, item.info);
            if let Some(target) = &item.target {
                errors[i] = Some(self.encode(sink, &mut later, item, target)?);
            }
        }
        self.copy(sink, plan, 4)?;
        append(sink, &mut later.halves, folder)?;
        self.copy(sink, plan, 2)?;
        append(sink, &mut later.bytes, folder)?;
        self.copy(sink, plan, 1)?;
        Ok(errors)
    }

    /// Four-byte parts into the file, the others to those that wait; what encoding changed.
    fn encode(
        &self,
        sink: &mut Sink<'_>,
        later: &mut Later,
        item: &Item,
        (target, chosen): &(Target, Chosen),
    ) -> Result<f64> {
        let tensor = self.model.tensor(item.info)?;
        let shape = (tensor.rows(), tensor.cols());
        let weights = tensor.dequantize();
        let packed = (self.encode)(tensor.name(), [shape.0, shape.1], &weights, &target.recipe())?;
        let error = packed.error(&weights)?.nmse();
        let mut parts = packed.parts();
        parts.extend(chosen.parts(&weights, shape));
        for (part, new) in parts.iter().zip(&item.tensors) {
            let waits = match class(new)? {
                1 => &mut later.bytes,
                2 => &mut later.halves,
                _ => {
                    sink.put(&part.bytes)?;
                    continue;
                }
            };
            waits.write_all(&part.bytes).map_err(Error::output("writing", "a temporary file"))?;
        }
        Ok(error)
    }

    /// The tensors of this alignment that stay as they are.
    fn copy(&self, sink: &mut Sink<'_>, plan: &[Item], alignment: usize) -> Result<()> {
        const CHUNK: u64 = 16 << 20;
        for item in plan.iter().filter(|item| item.target.is_none()) {
            for (info, new) in self.model.parts(item.info).into_iter().zip(&item.tensors) {
                if class(new)? != alignment {
                    continue;
                }
                for start in (0..info.bytes).step_by(CHUNK as usize) {
                    sink.put(&self.model.range(info, start..info.bytes.min(start + CHUNK))?)?;
                }
            }
        }
        Ok(())
    }
}

/// Parts of weights that come behind those of all others, by the size of their elements.
struct Later {
    halves: File,
    bytes: File,
}

impl Later {
    fn new(folder: &Path) -> Result<Self> {
        let file = || tempfile::tempfile_in(folder).map_err(Error::output("creating a file in", folder));
        Ok(Self { halves: file()?, bytes: file()? })
    }
}

/// Its alignment as [`Job::fill`] goes through the file: 8, 4, 2 or 1.
fn class(tensor: &NewTensor) -> Result<usize> {
    let alignment = tensor.alignment()?;
    Ok([8, 4, 2].into_iter().find(|class| alignment.is_multiple_of(*class)).unwrap_or(1))
}

/// The order of [`Job::fill`]: the widest types first, so that each tensor is aligned.
fn order(plan: &[Item]) -> Result<Vec<At>> {
    let mut places = vec![];
    for (item, it) in plan.iter().enumerate() {
        for (part, tensor) in it.tensors.iter().enumerate() {
            let class = class(tensor)?;
            let kept = it.target.is_none();
            // Encoded parts come before copied ones of their size.
            places.push(((std::cmp::Reverse(class), kept), At { item, part }));
        }
    }
    places.sort_by_key(|(key, _)| *key);
    Ok(places.into_iter().map(|(_, at)| at).collect())
}

fn append(sink: &mut Sink<'_>, from: &mut File, out: &Path) -> Result<()> {
    from.rewind().map_err(Error::io("reading a file in", out))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match from.read(&mut chunk).map_err(Error::io("reading a file in", out))? {
            0 => return Ok(()),
            count => sink.put(&chunk[..count])?,
        }
    }
}

/// Refuses a model that is quantized already: its config.json would no longer say how.
fn check_source(model: &Model) -> Result<()> {
    let how = model.config().map(|c| &c["quantization_config"]).filter(|how| !how.is_null());
    let module = model.tensors().iter().find(|t| !t.is_stored_alone());
    let what = match (how, module) {
        (Some(how), _) => shown(how["quant_method"].as_str().unwrap_or("its config.json says so")),
        (None, Some(tensor)) => format!("`{}` is {}", shown(&tensor.name), tensor.dtype),
        (None, None) => return Ok(()),
    };
    Err(Error::Argument(format!("{}: the model is quantized already ({what})", model.path().display())))
}

/// Refuses to write over the model itself, another checkpoint or another file, beside weights that
/// would be taken for part of the new one, and where a file cannot be.
fn check_target(model: &Model, out: &Path, others: &[OsString], config: &str) -> Result<()> {
    let refuse = |what: String| Err(Error::Argument(format!("{}: {what}", out.display())));
    if out.as_os_str().is_empty() || out.is_file() {
        return refuse("it is no folder".into());
    }
    if same_file(&folder(model), out) {
        return refuse("it is the folder of the model itself".into());
    }
    for name in others.iter().map(OsString::as_os_str).chain([WEIGHTS, CONFIG].map(OsStr::new)) {
        let path = out.join(name);
        // Links are followed when they are written to.
        if model.refuse_as_output(&path).is_err() {
            return refuse("it links to files of the model itself".into());
        }
        let shown = shown(&name.to_string_lossy());
        if path.is_dir() {
            return refuse(format!("its folder `{shown}` is where a file belongs"));
        }
        let is_other = match name {
            // Weights are looked for by more names below.
            name if name == WEIGHTS => false,
            name if name == CONFIG => differs(&path, &mut config.as_bytes()),
            name => File::open(folder(model).join(name)).is_ok_and(|mut new| differs(&path, &mut new)),
        };
        // A run that was killed leaves what is the same.
        if is_other {
            return refuse(format!("`{shown}` there is another file"));
        }
    }
    match weights_in(out)? {
        Some(name) => refuse(format!("it holds weights already, `{}`", shown(&name))),
        None => Ok(()),
    }
}

/// The name of a file in a folder that makes it a checkpoint, if there is one. What lies there
/// besides may be anything.
fn weights_in(folder: &Path) -> Result<Option<String>> {
    let reading = || Error::io("reading", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(reading())?,
    };
    let ends = [".safetensors", ".safetensors.index.json"];
    for entry in entries {
        let name = entry.map_err(reading())?.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_weights = name.starts_with("pytorch_model") || ends.iter().any(|end| name.ends_with(end));
        if is_weights && !name.starts_with('.') {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// True if there is a file that does not hold what `new` does.
fn differs(path: &Path, new: &mut dyn Read) -> bool {
    if !path.exists() {
        return false;
    }
    let chunk = |from: &mut dyn Read| {
        let mut bytes = vec![];
        from.take(1 << 20).read_to_end(&mut bytes).map(|_| bytes)
    };
    let Ok(mut old) = File::open(path) else { return true };
    loop {
        match (chunk(&mut old), chunk(new)) {
            (Ok(old), Ok(new)) if old != new => return true,
            (Ok(old), Ok(_)) if old.is_empty() => return false,
            (Ok(_), Ok(_)) => {}
            _ => return true,
        }
    }
}

/// Refuses a model in which something has the name of columns that are kept beside a weight that is
/// encoded: it would be taken for them.
fn check_kept_columns(model: &Model, plan: &[Item]) -> Result<()> {
    let encoded: HashSet<_> = plan
        .iter()
        .filter(|i| i.target.is_some())
        .filter_map(|i| i.info.name.strip_suffix(".weight"))
        .collect();
    let is_kept = |name: &str| {
        let module = [LIST, KEPT_WEIGHT].into_iter().find_map(|end| name.strip_suffix(end));
        module.is_some_and(|module| encoded.contains(module))
    };
    let mut copied = plan.iter().filter(|i| i.target.is_none()).map(|i| &i.info.name);
    match copied.find(|name| is_kept(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Argument(format!(
            "{}: `{}` would be taken for columns of its weight that are kept in 16 bits",
            model.path().display(),
            shown(name)
        ))),
    }
}

/// Where the model's config.json is; shards may lie in folders below.
fn folder(model: &Model) -> PathBuf {
    let path = model.path();
    match path.parent() {
        _ if path.is_dir() => path.into(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => ".".into(),
    }
}

/// Ends of files with the weights as they were, some for other programs.
const OTHER_WEIGHTS: [&str; 11] = [
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".gguf",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
];

fn is_weights(name: &str) -> bool {
    OTHER_WEIGHTS.iter().any(|end| name.ends_with(end))
}

/// The names of tokenizers and the like.
fn others(model: &Model) -> Result<Vec<OsString>> {
    // A lone file is no checkpoint, and what lies beside it is not its own.
    if model.config().is_none() {
        return Ok(vec![]);
    }
    let (from, mut names) = (folder(model), vec![]);
    for entry in fs::read_dir(&from).map_err(Error::io("reading", &from))? {
        let entry = entry.map_err(Error::io("reading", &from))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let skip = text == CONFIG || text.starts_with('.') || is_weights(&text);
        if !skip && entry.path().is_file() {
            names.push(name);
        }
    }
    Ok(names)
}

fn copy_others(model: &Model, others: &[OsString], out: &Path) -> Result<()> {
    let from = folder(model);
    for name in others {
        let path = from.join(name);
        let mut file = File::open(&path).map_err(Error::io("opening", &path))?;
        output::write(&out.join(name), |sink| append(sink, &mut file, &from))?;
    }
    Ok(())
}

/// The model's config.json with what transformers wants to know.
fn config(job: &Job, plan: &[Item]) -> Result<String> {
    let mut config = job.model.config().cloned().unwrap_or_else(|| json!({}));
    let Some(fields) = config.as_object_mut() else {
        return Err(Error::Argument(format!("{}: its config.json is no object", job.model.path().display())));
    };
    fields.insert("quantization_config".into(), quantization_config(job, plan));
    serde_json::to_string_pretty(&config)
        .map_err(|e| Error::Argument(format!("config.json cannot be written: {e}")))
}

fn quantization_config(job: &Job, plan: &[Item]) -> Value {
    let first = plan.iter().find_map(|i| i.target.as_ref());
    let mut config = first.map_or(job.target, |(target, _)| target).config();
    // Without a list transformers decides itself, and might expect what was kept to be quantized.
    config["llm_int8_skip_modules"] = job.skipped(plan).into();
    config
}

/// The experts of a layer by one name, as there may be tens of thousands in a model.
fn experts_together(module: &str) -> &str {
    const EXPERTS: &str = ".experts.";
    module.find(EXPERTS).map_or(module, |at| &module[..at + EXPERTS.len() - 1])
}

/// True if transformers takes `module` for one that `skip` names: one inside it, or one that ends
/// so.
fn is_skipped(module: &str, skip: &str) -> bool {
    module.ends_with(skip) || module.strip_prefix(skip).is_some_and(|rest| rest.starts_with('.'))
}

fn report(job: &Job, plan: &[Item], errors: &[Option<f64>]) -> Report {
    let tensors = plan.iter().zip(errors).map(|(item, error)| TensorReport {
        name: item.info.name.clone(),
        from: item.info.dtype,
        to: item.target.as_ref().map_or(item.info.dtype, |(t, _)| DType::Supported(t.format())),
        kept_columns: item.kept_columns(),
        left_because: item.left_because.clone(),
        error: *error,
    });
    let bytes_after = plan.iter().flat_map(|i| &i.tensors).filter_map(|t| t.bytes().ok()).sum::<usize>();
    Report {
        tensors: tensors.collect(),
        bytes_before: job.model.tensors().iter().map(|t| t.bytes).sum(),
        bytes_after: bytes_after as u64,
        warnings: match job.known {
            Some(_) => vec![],
            None => vec!["only qmatmul reads the folder: its layers were chosen by their names".into()],
        },
    }
}
