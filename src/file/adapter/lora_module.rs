//! What an adapter holds: modules that it adds to, and what is left out of it.

use crate::error::{Error, Result};
use crate::file::model::Model;
use crate::file::names::{hint, shown};
use crate::linear::Lora;
use std::path::Path;

/// A module that an adapter adds to.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The module's name in the base model: `model.layers.0.self_attn.q_proj`, `blk.0.attn_q`.
    pub name: String,
    /// r.
    pub rank: usize,
    /// s.
    pub scale: f64,
    /// Positions of a and b among the tensors of the file.
    pub(super) tensors: [usize; 2],
}

impl Module {
    /// Its matrices as the adapter's file holds them.
    pub(super) fn low_rank(&self, file: &Model) -> Result<Lora> {
        let [a, b] = self.tensors.map(|i| file.tensor(&file.tensors()[i]));
        Lora::new(a?, b?, self.scale)
    }
}

/// A module of an adapter that is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Its name in the base model.
    pub name: String,
    /// Why not.
    pub why: &'static str,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Sorted by name.
    pub modules: Vec<Module>,
    /// Sorted by name, each once.
    pub left_out: Vec<LeftOut>,
}

impl Contents {
    /// The module of this name, or of the tensor `<module>.weight`.
    pub fn get(&self, name: &str) -> Option<&Module> {
        let of = |name: &str| self.modules.binary_search_by(|m| (*m.name).cmp(name)).ok();
        let at = of(name).or_else(|| of(name.strip_suffix(".weight")?));
        at.map(|at| &self.modules[at])
    }

    /// The same for a module that must be in the adapter `path`.
    pub fn find(&self, path: &Path, name: &str) -> Result<&Module> {
        self.get(name).ok_or_else(|| {
            let near = || hint(name, self.modules.iter().map(|m| &*m.name));
            not_found(path, name, &self.left_out, near)
        })
    }
}

/// That an adapter has no such module: why it is left out, or what else there is to say.
pub(super) fn not_found(
    path: &Path,
    name: &str,
    left_out: &[LeftOut],
    hint: impl FnOnce() -> String,
) -> Error {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let left = left_out.iter().find(|left| left.name == module);
    let hint = left.map_or_else(hint, |left| format!(" that can be used: {}", left.why));
    Error::NotFound { file: path.display().to_string(), what: "module", name: shown(name), hint }
}

/// A tensor of a file: which module's it is, whether it is a (0) or b (1), and its position.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Side<'a> {
    pub module: &'a str,
    pub side: usize,
    pub tensor: usize,
}

/// The whole weight is in the file, trained or copied.
pub(super) const SAVED_WHOLE: &str = "it is saved whole";
/// A lookup, to which nothing is added by a product.
pub(super) const EMBEDDING: &str = "it adds to an embedding";
/// Matrices of all experts in one tensor.
pub(super) const STACK: &str = "it adds to a stack of experts";

/// Sorts what is left out; of a module with several reasons, the first in the order of their texts
/// is kept.
pub(super) fn each_once(mut left_out: Vec<LeftOut>) -> Vec<LeftOut> {
    left_out.sort_unstable();
    left_out.dedup_by(|later, first| later.name == first.name);
    left_out
}
