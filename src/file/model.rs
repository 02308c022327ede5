//! A model as one list of weights, from whatever files it lies in: the one thing users open.

mod ranges;

use super::container::folder::{Beside, Folder};
use super::container::gguf::Gguf;
use super::container::gguf_split::{self, Whole};
use super::container::safetensors::{Header, TextMap};
use super::container::source::{OpenOptions, Source};
use super::container::tensors::Files;
use super::container::tensors::{TensorInfo, TensorTable};
use super::names::shown;
use super::scheme::registry::Gathered;
use crate::error::{Error, Result};
use crate::format::{self, Format};
use crate::linear::Linear;
use crate::tensor::PackedTensor;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a [`Model`] was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A GGUF file of this version, or one in several parts.
    Gguf(u32),
    /// One safetensors file.
    Safetensors,
    /// The shards of a safetensors index.
    Sharded,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(version) => write!(f, "GGUF v{version}"),
            Self::Safetensors => f.write_str("safetensors"),
            Self::Sharded => f.write_str("safetensors, sharded"),
        }
    }
}

/// An opened model file or checkpoint: its tensors by name, and their bytes on demand.
///
/// ```
/// use qmatmul::file::Model;
///
/// # fn main() -> qmatmul::Result<()> {
/// let header = br#"{"up.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
/// let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 24]].concat();
/// let model = Model::from_bytes("up.safetensors", file)?;
/// let info = model.find("up")?; // `.weight` may be left out
/// assert_eq!((&*info.name, info.rows(), info.cols(), info.bytes), ("up.weight", 2, 3, 24));
/// assert_eq!(model.tensor(info)?.dequantize(), [0.0; 6]);
/// assert_eq!(model.rows(info, 1..2)?.rows(), 1);
/// assert_eq!(model.bytes(info)?.len(), 24);
/// let error = model.find("down").unwrap_err();
/// assert_eq!(error.to_string(), "up.safetensors holds no tensor `down`");
/// # Ok(())
/// # }
/// ```
pub struct Model {
    path: PathBuf,
    kind: Kind,
    pub(super) files: Vec<Source>,
    pub(super) tensors: TensorTable,
    /// See [`Gathered`].
    stored: Vec<TensorInfo>,
    gguf: super::container::gguf::Metadata,
    header: TextMap,
    /// The file that lists the shards.
    index: Option<PathBuf>,
    config: Option<super::scheme::config::Config>,
    /// The file of the settings, where that is another.
    settings: Option<PathBuf>,
    int8_threshold: Option<f32>,
    /// The folder of a checkpoint.
    beside: Beside,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("kind", &self.kind)
            .field("files", &self.files.len())
            .field("tensors", &self.tensors().len())
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens a `.gguf`, a `.safetensors`, a `*.safetensors.index.json`, or a folder with a
    /// checkpoint (its index, its only `.safetensors` or its only `.gguf`). What a file is, its
    /// first bytes decide. A part of a GGUF in several files stands for all of them, which lie
    /// beside it.
    ///
    /// ```no_run
    /// use qmatmul::file::{Model, OpenOptions};
    ///
    /// # fn main() -> qmatmul::Result<()> {
    /// let model = Model::open("Llama-3.2-1B-Q4_K_M.gguf", &OpenOptions::default())?;
    /// for tensor in model.tensors() {
    ///     println!("{} {} {:?}", tensor.name, tensor.dtype, tensor.shape);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] where a file contradicts its format or the other parts;
    /// [`Error::NotFound`] or [`Error::Argument`] if a folder holds none or several, or lacks a
    /// part.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open_folder(&Folder::on_disk(path, options));
        }
        let folder = Folder::on_disk(path.parent().unwrap_or(Path::new("")), options);
        Self::open_in(path, &folder, path.file_name().unwrap_or_default().as_ref())
    }

    /// Opens a checkpoint whose files are in memory, by name, as [`Model::open`] opens a folder:
    /// with its index, its `config.json` and the like. `label` stands for the folder in errors.
    ///
    /// ```
    /// use qmatmul::file::Model;
    ///
    /// # fn main() -> qmatmul::Result<()> {
    /// let header = br#"{"w":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}"#;
    /// let len = (header.len() as u64).to_le_bytes();
    /// let weights = [&len[..], header, &[0x80, 0x3f, 0, 0]].concat();
    /// let files = [("model.safetensors", weights.into()), ("config.json", "{}".into())];
    /// let model = Model::from_files("checkpoint", &files)?;
    /// assert_eq!(model.tensor(model.find("w")?)?.dequantize(), [1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_files(label: &str, files: &[(&str, Bytes)]) -> Result<Self> {
        Self::open_folder(&Folder::in_memory(label.as_ref(), files))
    }

    /// Opens a GGUF or safetensors file that is already in memory; `label` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] as in [`Model::open`].
    pub fn from_bytes(label: &str, bytes: impl Into<Bytes>) -> Result<Self> {
        let path = Path::new(label);
        let source = Source::from_bytes(path, bytes.into());
        match Content::of(&source)? {
            Content::Gguf => Self::from_gguf(path, source),
            // No file lies beside it.
            Content::Safetensors | Content::Json => {
                Self::from_safetensors(path, source, &Folder::in_memory(path, &[]))
            }
        }
    }

    fn open_folder(folder: &Folder) -> Result<Self> {
        Self::open_in(folder.path(), folder, super::scheme::checkpoint::main_file(folder)?.as_ref())
    }

    /// Opens a file of a folder as the model `path`.
    pub(super) fn open_in(path: &Path, folder: &Folder, name: &Path) -> Result<Self> {
        let source = folder.source(name)?;
        match Content::of(&source)? {
            Content::Gguf => Self::from_parts(path, source, folder, name),
            Content::Safetensors => Self::from_safetensors(path, source, folder),
            Content::Json => Self::from_index(path, folder, name),
        }
    }

    /// The model of a GGUF file that lies alone.
    pub(super) fn from_gguf(path: &Path, source: Source) -> Result<Self> {
        Self::from_parts(path, source, &Folder::in_memory(path, &[]), path)
    }

    /// The model of a GGUF file of a folder: of all its parts, if it is one.
    fn from_parts(path: &Path, source: Source, folder: &Folder, name: &Path) -> Result<Self> {
        let Whole { gguf, files } = gguf_split::open(source, folder, name)?;
        let Gguf { version, metadata, tensors } = gguf;
        let Gathered { tensors, stored } = super::scheme::registry::gather_gguf(tensors, &Files(&files))?;
        let kind = Kind::Gguf(version);
        let header = TextMap::default();
        Ok(Self {
            path: path.into(),
            kind,
            files,
            tensors,
            stored,
            gguf: metadata,
            header,
            index: None,
            config: None,
            settings: None,
            int8_threshold: None,
            beside: Beside::Memory(vec![]),
        })
    }

    fn from_safetensors(path: &Path, source: Source, folder: &Folder) -> Result<Self> {
        let header = super::container::safetensors::open(&source)?;
        Self::from_tensors(path, folder, vec![source], header)
    }

    fn from_index(path: &Path, folder: &Folder, name: &Path) -> Result<Self> {
        let index = super::scheme::checkpoint::Index::open(folder, name)?;
        let (mut files, mut tables, mut metadata) = (Vec::new(), Vec::new(), None);
        let mut lacking = None;
        for shard in &index.shards {
            let source = folder.source(shard)?;
            let shard = match super::container::safetensors::open(&source) {
                // The others are looked at too, so that what is missing comes together.
                Err(error) if source.lacks() => {
                    lacking.get_or_insert(error);
                    continue;
                }
                shard => shard?,
            };
            files.push(source);
            tables.push(shard.tensors);
            metadata.get_or_insert(shard.metadata);
        }
        if let Some(error) = lacking {
            return Err(error);
        }
        let header = Header { tensors: index.merge(tables)?, metadata: metadata.unwrap_or_default() };
        // Its text and names would stand beside those of the weights.
        drop(index);
        let model = Self::from_tensors(path, folder, files, header)?;
        Ok(Self { kind: Kind::Sharded, index: Some(folder.join(name)), ..model })
    }

    /// The model of what safetensors files hold together, by the settings beside them.
    fn from_tensors(path: &Path, folder: &Folder, files: Vec<Source>, header: Header) -> Result<Self> {
        let config = super::scheme::config::Config::of(folder)?;
        let (settings, beside) = super::scheme::checkpoint::quantization(folder, config.as_ref())?;
        let Gathered { tensors, stored } =
            super::scheme::registry::gather(header.tensors, &Files(&files), &settings, config.as_ref())?;
        Ok(Self {
            path: path.into(),
            kind: Kind::Safetensors,
            files,
            tensors,
            stored,
            gguf: super::container::gguf::Metadata::default(),
            header: header.metadata,
            index: None,
            config,
            settings: beside,
            int8_threshold: settings.int8_threshold(),
            beside: Beside::of(folder),
        })
    }

    /// The path as it was given, or the label.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model was read from.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The files that hold the tensors, with their sizes in bytes.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&Path, u64)> {
        self.files.iter().map(|source| (source.path(), source.len()))
    }

    /// All tensors: as a GGUF lists them, or by their place in a safetensors file; shards in the
    /// order of their names.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors.list
    }

    /// The tensors that a tensor is made of, as the files list them: those of a module, the codes
    /// first, or itself.
    pub fn parts<'a>(&'a self, info: &'a TensorInfo) -> Vec<&'a TensorInfo> {
        info.module.as_ref().map_or_else(|| vec![info], |module| module.parts(&self.stored))
    }

    /// The metadata of a GGUF; empty for other files.
    pub fn gguf(&self) -> &super::container::gguf::Metadata {
        &self.gguf
    }

    /// The `__metadata__` of a safetensors file, or of the first shard; empty for other files.
    pub fn header(&self) -> &TextMap {
        &self.header
    }

    /// The `config.json` beside a safetensors file or index, if there is one.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref().map(super::scheme::config::Config::value)
    }

    /// What lies beside the tensors of a checkpoint.
    pub(super) fn beside(&self) -> &Beside {
        &self.beside
    }

    /// The `llm_int8_threshold` of a checkpoint's settings: features of this magnitude or more stay
    /// out of LLM.int8's integers, none if it is 0.
    pub fn int8_threshold(&self) -> Option<f32> {
        self.int8_threshold
    }

    /// The tensor of this name, or of this name with `.weight` appended.
    ///
    /// # Errors
    /// [`Error::NotFound`], with similar names if there are any.
    pub fn find(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.find(|| self.path.display().to_string(), name)
    }

    /// A tensor as a matrix `[rows, cols]`: columns are the innermost dimension, rows all others
    /// together.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if it is stored in a format without a decoder, [`Error::Io`] if
    /// it cannot be read.
    pub fn tensor(&self, info: &TensorInfo) -> Result<PackedTensor> {
        self.rows(info, 0..info.rows())
    }

    fn tensor_of(&self, files: &Files, info: &TensorInfo) -> Result<PackedTensor> {
        self.rows_of(files, info, 0..info.rows())
    }

    /// A weight with its bias: the tensor `<module>.bias` beside `<module>.weight`, or `bias`
    /// beside `weight`, where there is one and the weight has two dimensions (a norm's bias is none
    /// of a matmul). Columns that [`quantize_checkpoint`](super::quantize_checkpoint()) kept in 16
    /// bits are taken from there.
    ///
    /// [`Layer`](crate::Layer) has an example.
    ///
    /// # Errors
    /// As [`Model::tensor`], [`Error::Shape`] if the bias has not as many values as the weight has
    /// rows, and [`Error::Malformed`] if they are integers, whose scale would be somewhere else.
    pub fn linear(&self, info: &TensorInfo) -> Result<Linear> {
        self.linear_of(&Files(&self.files), info)
    }

    fn linear_of(&self, files: &Files, info: &TensorInfo) -> Result<Linear> {
        let linear = self.weight_of(files, info)?;
        match self.bias(&info.name).filter(|_| info.shape.len() == 2) {
            Some(bias) if ["I8", "I16", "I32", "I64"].contains(&bias.dtype.name()) => {
                let problem = format!(
                    "it is a bias, for which numbers of floats belong here, its type is {}",
                    bias.dtype
                );
                Err(self.malformed(bias, problem))
            }
            Some(bias) => linear.with_bias(self.tensor_of(files, bias)?),
            None => Ok(linear),
        }
    }

    /// The bias beside the weight of this name; that of a layer saved alone has no module before
    /// it.
    fn bias(&self, weight: &str) -> Option<&TensorInfo> {
        match weight {
            "weight" => self.tensors.get("bias"),
            _ => self.tensors.beside(weight.strip_suffix(".weight").unwrap_or(weight), ".bias"),
        }
    }

    /// [`Model::linear`] without its bias.
    ///
    /// # Errors
    /// As [`Model::tensor`].
    pub fn linear_without_bias(&self, info: &TensorInfo) -> Result<Linear> {
        self.weight_of(&Files(&self.files), info)
    }

    fn weight_of(&self, files: &Files, info: &TensorInfo) -> Result<Linear> {
        let linear = Linear::new(self.tensor_of(files, info)?);
        let kept = info.module.as_ref().map(|module| module.kept(&self.stored, files));
        match kept.transpose()?.flatten() {
            Some(kept) => linear.with_kept(kept),
            None => Ok(linear),
        }
    }

    /// Some rows of a tensor, as [`Model::tensor`].
    ///
    /// # Errors
    /// As [`Model::tensor`], and [`Error::Shape`] if the tensor does not have these rows.
    pub fn rows(&self, info: &TensorInfo, rows: Range<u64>) -> Result<PackedTensor> {
        self.rows_of(&Files(&self.files), info, rows)
    }

    fn rows_of(&self, files: &Files, info: &TensorInfo, rows: Range<u64>) -> Result<PackedTensor> {
        if rows.start > rows.end || rows.end > info.rows() {
            let what = format!("tensor `{}`: rows", shown(&info.name));
            return Err(Error::shape(what, format!("0..{}", info.rows()), format!("{rows:?}")));
        }
        if let Some(module) = &info.module {
            let whole = module.load(&info.name, &self.stored, files)?;
            let part = rows.end - rows.start < info.rows();
            let rows: Vec<usize> = if part { rows.map(|row| row as usize).collect() } else { vec![] };
            return if part { whole.select_rows(&rows) } else { Ok(whole) };
        }
        let format = supported(info)?;
        let row_bytes = info.bytes.checked_div(info.rows()).unwrap_or(0);
        let bytes = self.range_of(files, info, row_bytes * rows.start..row_bytes * rows.end)?;
        let [rows, cols] = [rows.end - rows.start, info.cols()].map(usize::try_from);
        match (rows, cols) {
            (Ok(rows), Ok(cols)) => PackedTensor::new(&*info.name, format, rows, cols, bytes),
            _ => Err(Error::shape(format!("tensor `{}`", info.name), "usize", format!("{:?}", info.shape))),
        }
    }

    /// The bytes of a tensor as they lie in its file: a slice of the map, or read now.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn bytes(&self, info: &TensorInfo) -> Result<Bytes> {
        self.range(info, 0..self.stored(info).bytes)
    }

    /// A weight as its file holds it: before it is transposed or multiplied by a scale
    /// ([`Module::is_stored_alone`](super::Module::is_stored_alone)); any other tensor itself.
    pub fn stored<'a>(&'a self, info: &'a TensorInfo) -> &'a TensorInfo {
        let alone = info.module.as_ref().filter(|module| module.is_stored_alone());
        alone.and_then(|module| module.parts(&self.stored).first().copied()).unwrap_or(info)
    }

    /// Some of a tensor's bytes, as [`Model::bytes`].
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read, [`Error::Argument`] if the tensor does not have them
    /// or is a module, whose bytes are those of its parts.
    pub fn range(&self, info: &TensorInfo, range: Range<u64>) -> Result<Bytes> {
        self.range_of(&Files(&self.files), info, range)
    }

    fn range_of(&self, files: &Files, info: &TensorInfo, range: Range<u64>) -> Result<Bytes> {
        if let Some(module) = info.module.as_ref().filter(|module| !module.is_stored_alone()) {
            let (name, count) = (shown(&info.name), module.parts(&self.stored).len());
            return Err(Error::Argument(format!(
                "`{name}` lies in {count} tensors; ask for the bytes of each"
            )));
        }
        files.range(self.stored(info), range)
    }

    /// Refuses to write what comes of the model over one of its own files.
    ///
    /// # Errors
    /// [`Error::Argument`] with the file.
    pub fn refuse_as_output(&self, path: &Path) -> Result<()> {
        // In memory and by ranges they have labels, not paths.
        if self.files.iter().any(|file| !file.is_on_disk()) {
            return Ok(());
        }
        let config = self.config.as_ref().map(super::scheme::config::Config::path);
        let beside = [self.index.as_deref(), config, self.settings.as_deref()].into_iter().flatten();
        super::container::output::refuse_input(path, self.files.iter().map(Source::path).chain(beside))
    }

    /// Something that is wrong with a tensor.
    pub(super) fn malformed(&self, info: &TensorInfo, problem: impl Into<String>) -> Error {
        Files(&self.files).malformed(info, problem)
    }
}

fn supported(info: &TensorInfo) -> Result<&'static Format> {
    info.dtype.format().ok_or_else(|| Error::UnsupportedFormat {
        tensor: shown(&info.name),
        format: info.dtype.name().into(),
        supported: format::names(),
    })
}

/// What a file is by its first bytes.
enum Content {
    Gguf,
    Safetensors,
    Json,
}

impl Content {
    fn of(source: &Source) -> Result<Self> {
        let head = source.copy(0..source.len().min(16))?;
        let extension = source.path().extension().unwrap_or_default();
        let length = head.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let hint = foreign(&head);
        if head.starts_with(super::container::gguf::MAGIC) || (extension == "gguf" && hint.is_empty()) {
            Ok(Self::Gguf)
        } else if length.is_some_and(|length| length <= super::container::safetensors::MAX_HEADER) {
            Ok(Self::Safetensors)
        } else if head.trim_ascii_start().starts_with(b"{") || (extension == "json" && hint.is_empty()) {
            Ok(Self::Json)
        } else if extension == "safetensors" && hint.is_empty() {
            Ok(Self::Safetensors)
        } else {
            let problem = format!("it is neither GGUF nor safetensors nor an index of shards{hint}");
            Err(Error::Malformed { file: source.label(), what: "file".into(), offset: 0, problem })
        }
    }
}

/// What people have in such a place by mistake.
fn foreign(head: &[u8]) -> &'static str {
    match head {
        [b'P', b'K', 3, 4, ..] => "; it looks like a PyTorch file, which must be saved as safetensors first",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "; it looks like a Git LFS pointer: fetch the file itself"
        }
        _ => "",
    }
}
