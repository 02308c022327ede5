//! Adapters of low rank (LoRA): a folder as PEFT saves it, with `adapter_config.json` and
//! `adapter_model.safetensors`, or a GGUF as llama.cpp's converter makes of one.
//!
//! A module's matrices a `[r, k]` and b `[m, r]` add `s · (x · aᵀ) · bᵀ` to its `y[n, m]`, where
//! `s = lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora` (Kalajdzievski 2023). What
//! would change that formula is refused by name; weights that an adapter holds as a whole are left
//! out, and [`Adapter::left_out`] says which.

pub use super::lora_fit::Fit;
pub use super::lora_module::{LeftOut, Module};

use super::lora_config::{self, LoraConfig};
use super::lora_module::Contents;
use super::{lora_gguf, lora_peft};
use crate::error::{Error, Result};
use crate::file::container::folder::Folder;
use crate::file::container::output::refuse_input;
use crate::file::container::source::OpenOptions;
use crate::file::model::{Kind, Model};
use crate::linear::Lora;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// PEFT's file of matrices.
const WEIGHTS: &str = "adapter_model.safetensors";

/// An opened adapter: its modules by name, and their matrices on demand.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    model: Model,
    contents: Contents,
}

impl Adapter {
    /// Opens a folder of PEFT or a GGUF file. Headers alone are read and checked.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] where a file contradicts its format, the other one, or
    /// what is supported.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        match path.is_file() {
            true => Self::open_gguf(path, options),
            false => Self::open_in(&Folder::on_disk(path, options)),
        }
    }

    /// Opens a folder whose files are in memory; `label` names it in errors.
    ///
    /// # Errors
    /// As [`Adapter::open`].
    pub fn from_files(label: &str, files: &[(&str, Bytes)]) -> Result<Self> {
        Self::open_in(&Folder::in_memory(label.as_ref(), files))
    }

    fn open_in(folder: &Folder) -> Result<Self> {
        let text = lora_config::Text::open(folder)?;
        let name = Path::new(WEIGHTS);
        let model = Model::open_in(&folder.join(name), folder, name)?;
        let name_bytes = model.tensors().iter().map(|tensor| tensor.name.len()).sum();
        let config = LoraConfig::new(&text, name_bytes)?;
        let contents = lora_peft::contents(&config, &model)?;
        Ok(Self { path: folder.path().into(), model, contents })
    }

    fn open_gguf(path: &Path, options: &OpenOptions) -> Result<Self> {
        let model = Model::open(path, options)?;
        if !matches!(model.kind(), Kind::Gguf(_)) {
            let path = path.display();
            return Err(Error::Argument(format!(
                "{path}: an adapter is a GGUF file, or a folder as PEFT saves it"
            )));
        }
        let contents = lora_gguf::contents(&model)?;
        Ok(Self { path: path.into(), model, contents })
    }

    /// The folder or file as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The modules, sorted by name.
    pub fn modules(&self) -> &[Module] {
        &self.contents.modules
    }

    /// What the adapter holds and is not used, sorted by name.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.contents.left_out
    }

    /// The module of this name, or of the tensor `<module>.weight`, if the adapter has it.
    pub fn get(&self, name: &str) -> Option<&Module> {
        self.contents.get(name)
    }

    /// [`Adapter::get`], for a module that must be there.
    ///
    /// # Errors
    /// [`Error::NotFound`], with why it is left out, or similar names if there are any.
    pub fn find(&self, name: &str) -> Result<&Module> {
        self.contents.find(&self.path, name)
    }

    /// How the adapter lies on a model: by the names of the model's tensors, which differ between
    /// GGUF and checkpoints.
    ///
    /// # Errors
    /// [`Error::Argument`] if they differ and the names of the architecture are not known, or the
    /// adapter is of another.
    pub fn on<'a>(&'a self, model: &'a Model) -> Result<Fit<'a>> {
        Fit::new(&self.path, &self.model, &self.contents, model)
    }

    /// Refuses to write what comes of the adapter over one of its own files.
    ///
    /// # Errors
    /// [`Error::Argument`] with the file.
    pub fn refuse_as_output(&self, path: &Path) -> Result<()> {
        self.model.refuse_as_output(path)?;
        refuse_input(path, [&*self.path.join(lora_config::NAME)].into_iter())
    }

    /// The matrices of a module, as they are stored.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn low_rank(&self, module: &Module) -> Result<Lora> {
        module.low_rank(&self.model)
    }
}
