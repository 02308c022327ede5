//! Adapters of low rank (LoRA) as PEFT saves them: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! For each module the file holds `base_model.model.<module>.lora_A.weight` `[r, k]` and
//! `….lora_B.weight` `[m, r]`, or the same with the adapter's name before `.weight`. They add
//! `s · (x · aᵀ) · bᵀ` to the module's `y[n, m]`, where `s = lora_alpha / r`, or
//! `lora_alpha / sqrt(r)` with `use_rslora` (Kalajdzievski 2023). What would change that formula is
//! refused by name.

use crate::error::{Error, Result};
use crate::file::adapter::lora_config::LoraConfig;
use crate::file::container::folder::Folder;
use crate::file::container::source::OpenOptions;
use crate::file::model::Model;
use crate::file::names::{hint, shown};
use crate::linear::Lora;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// An opened adapter: its modules by name, and their matrices on demand.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    model: Model,
    modules: Vec<Module>,
}

/// A module that an adapter adds to.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The module's name in the base model: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// r.
    pub rank: usize,
    /// s.
    pub scale: f64,
    /// Positions of a and b among the tensors of the file.
    tensors: [usize; 2],
}

impl Adapter {
    /// Opens a folder. Headers alone are read and checked.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] where a file contradicts its format, the other one, or
    /// what is supported.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        Self::open_in(&Folder::on_disk(path.as_ref(), options))
    }

    /// Opens a folder whose files are in memory; `label` names it in errors.
    ///
    /// # Errors
    /// As [`Adapter::open`].
    pub fn from_files(label: &str, files: &[(&str, Bytes)]) -> Result<Self> {
        Self::open_in(&Folder::in_memory(label.as_ref(), files))
    }

    fn open_in(folder: &Folder) -> Result<Self> {
        let config = LoraConfig::open(folder)?;
        let name = Path::new("adapter_model.safetensors");
        let model = Model::open_in(&folder.join(name), folder, name)?;
        let sides = sides(&model)?;
        let of_modules = sides.chunk_by(|a, b| a.module == b.module);
        let modules = of_modules.map(|sides| module(&config, &model, sides)).collect::<Result<_>>()?;
        Ok(Self { path: folder.path().into(), model, modules })
    }

    /// The folder as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The modules, sorted by name.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module of this name, or of the tensor `<module>.weight`, if the adapter has it.
    pub fn get(&self, name: &str) -> Option<&Module> {
        let of = |name: &str| self.modules.binary_search_by(|m| (*m.name).cmp(name)).ok();
        let at = of(name).or_else(|| of(name.strip_suffix(".weight")?));
        at.map(|at| &self.modules[at])
    }

    /// [`Adapter::get`], for a module that must be there.
    ///
    /// # Errors
    /// [`Error::NotFound`], with similar names if there are any.
    pub fn find(&self, name: &str) -> Result<&Module> {
        self.get(name).ok_or_else(|| Error::NotFound {
            file: self.path.display().to_string(),
            what: "module",
            name: shown(name),
            hint: hint(name, self.modules.iter().map(|m| &*m.name)),
        })
    }

    /// Refuses to write what comes of the adapter over one of its own files.
    ///
    /// # Errors
    /// [`Error::Argument`] with the file.
    pub fn refuse_as_output(&self, path: &Path) -> Result<()> {
        self.model.refuse_as_output(path)?;
        crate::file::container::output::refuse_input(
            path,
            [&*self.path.join(crate::file::adapter::lora_config::NAME)].into_iter(),
        )
    }

    /// The matrices of a module.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn low_rank(&self, module: &Module) -> Result<Lora> {
        let [a, b] = module.tensors.map(|i| self.model.tensor(&self.model.tensors()[i]));
        Lora::new(a?, b?, module.scale)
    }
}

/// A tensor of the file: which module's it is, whether it is a (0) or b (1), and its position.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Side<'a> {
    module: &'a str,
    side: usize,
    tensor: usize,
}

/// All tensors, sorted: those of a module lie beside each other.
fn sides(model: &Model) -> Result<Vec<Side<'_>>> {
    let mut sides = Vec::with_capacity(model.tensors().len());
    for (tensor, info) in model.tensors().iter().enumerate() {
        let place = place(&info.name).ok_or_else(|| model.malformed(info, stranger(&info.name)));
        let (module, side) = place?;
        sides.push(Side { module, side, tensor });
    }
    sides.sort_unstable();
    Ok(sides)
}

const SIDES: [&str; 2] = ["A", "B"];

/// The module of a tensor and whether it is its a (0) or b (1).
fn place(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_prefix("base_model.model.")?.strip_suffix("weight")?;
    SIDES.iter().enumerate().find_map(|(side, letter)| {
        let (module, adapter) = name.rsplit_once(&format!(".lora_{letter}."))?;
        // "" or "default."
        (!module.is_empty() && adapter.matches('.').count() == usize::from(!adapter.is_empty()))
            .then_some((module, side))
    })
}

/// What a tensor is that is neither.
fn stranger(name: &str) -> &'static str {
    match () {
        _ if name.contains("lora_magnitude_vector") => "DoRA is not supported",
        _ if name.contains("lora_embedding_") => "adapters of embeddings are not supported",
        _ if name.ends_with(".bias") => "biases in adapters are not supported",
        _ => {
            "it is no `base_model.model.<module>.lora_A.weight` or `….lora_B.weight`; whole modules are not supported"
        }
    }
}

/// The module, its matrices checked against each other and the configuration.
fn module(config: &LoraConfig, model: &Model, sides: &[Side]) -> Result<Module> {
    let [a, b] = both(model, sides)?;
    let name = sides[0].module.to_owned();
    let rank = config.rank(&name)?;
    for (side, (i, axis)) in [(a, 0), (b, 1)].into_iter().enumerate() {
        let info = &model.tensors()[i];
        if !["F32", "F16", "BF16"].contains(&info.dtype.name()) {
            let problem = format!("it is stored as {}, wanted F32, F16 or BF16", info.dtype.name());
            return Err(model.malformed(info, problem));
        }
        let wanted = ["[r, k]", "[m, r]"][side];
        if info.shape.len() != 2 {
            return Err(model.malformed(info, format!("its shape is {:?}, wanted {wanted}", info.shape)));
        }
        if info.shape[axis] != rank as u64 {
            let problem = format!(
                "its shape {:?} as {wanted} says rank {}, adapter_config.json says {rank}",
                info.shape, info.shape[axis]
            );
            return Err(model.malformed(info, problem));
        }
    }
    Ok(Module { scale: config.scale(&name, rank)?, rank, name, tensors: [a, b] })
}

/// The positions of a and b of a module, which must have one of each.
fn both(model: &Model, sides: &[Side]) -> Result<[usize; 2]> {
    let malformed = |at: &Side, problem| Err(model.malformed(&model.tensors()[at.tensor], problem));
    let twice = sides.windows(2).find(|pair| pair[0].side == pair[1].side);
    match (sides, twice) {
        (_, Some(pair)) => {
            let side = SIDES[pair[1].side];
            malformed(&pair[1], format!("the module has two lora_{side}; one adapter at a time"))
        }
        ([a, b], None) => Ok([a.tensor, b.tensor]),
        (alone, None) => {
            let missing = SIDES[1 - alone[0].side];
            malformed(&alone[0], format!("the module has no lora_{missing} beside it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn tensors_are_placed_by_their_names() {
        let of =
            |name: &str| place(&format!("base_model.model.{name}")).map(|(m, side)| (m.to_owned(), side));
        assert_eq!(of("a.q.lora_A.weight"), Some(("a.q".into(), 0)));
        assert_eq!(of("a.q.lora_B.default.weight"), Some(("a.q".into(), 1)));
        assert_eq!(of("lora_A.q.lora_B.weight"), Some(("lora_A.q".into(), 1)));
        for name in [
            "a.q.weight",
            ".lora_A.weight",
            "q.lora_A.bias",
            "q.lora_A.a.b.weight",
            "q.lora_Aweight",
            "q.lora_A.xweight",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(place("a.q.lora_A.weight"), None);
    }
}
