//! What the conventions of checkpoints look at: tensors by the ends of their names, their bytes,
//! the settings.

use super::config::Config;
use super::settings::QuantizationConfig;
use crate::error::Result;
use crate::file::container::tensors::{Files, Module, TensorInfo, TensorTable};
use crate::file::names::{self, shown};
use std::cell::RefCell;
use std::collections::HashSet;

/// A convention, as its own file declares it.
pub(crate) struct Convention {
    /// The tools that write it, as `quant_method` names them.
    pub methods: &'static [&'static str],
    /// Names of its codes in their modules where these make no sense as tensors of their own.
    pub codes: &'static [&'static str],
    /// Names of its other tensors in a module. Without them the module would be read as another
    /// weight, so that no index may leave them out. Those of scales need not be here.
    pub parts: &'static [&'static str],
    /// Finds the weights of the convention, all lengths checked.
    pub modules: fn(&Checkpoint) -> Result<Vec<TensorInfo>>,
}

/// What a convention looks at: the tensors of a checkpoint, their bytes, and its settings.
pub(crate) struct Checkpoint<'a> {
    pub table: &'a TensorTable,
    pub files: &'a Files<'a>,
    pub settings: &'a QuantizationConfig,
    /// The config.json, for settings that one convention alone has.
    pub config: Option<&'a Config>,
    /// What follows the last dots of names, each once: `weight`, `scales`. None where there are
    /// very many, as no tool writes them.
    lasts: Option<HashSet<&'a str>>,
    /// Ends of names that were asked for, and whether any name has them: most questions are about
    /// conventions of other tools.
    ends: RefCell<Vec<(&'static str, bool)>>,
}

/// The most different ends of names that are remembered.
const MAX_LASTS: usize = 1024;

impl<'a> Checkpoint<'a> {
    pub fn new(
        table: &'a TensorTable,
        files: &'a Files<'a>,
        settings: &'a QuantizationConfig,
        config: Option<&'a Config>,
    ) -> Self {
        let (mut lasts, mut before) = (HashSet::new(), "");
        for tensor in &table.list {
            let last = names::last(&tensor.name);
            if last != before {
                lasts.insert(last);
                before = last;
            }
            if lasts.len() > MAX_LASTS {
                break;
            }
        }
        let lasts = (lasts.len() <= MAX_LASTS).then_some(lasts);
        Self { table, files, settings, config, lasts, ends: RefCell::default() }
    }

    /// A weight of a scheme that is known by name and not supported. It costs itself alone: whoever
    /// wants its numbers is told why there are none.
    pub fn unsupported(&self, name: String, parts: &[Option<&TensorInfo>], scheme: String) -> TensorInfo {
        let shape = parts.iter().flatten().next().map(|codes| codes.shape.clone()).unwrap_or_default();
        Module::unsupported(self.table, name, shape, parts, scheme)
    }

    /// False if no name ends so.
    pub fn occurs(&self, end: &'static str) -> bool {
        // The same place in the program, which costs less to find out than the same text.
        let same = |other: &&(&str, bool)| std::ptr::eq(other.0, end);
        let known = self.ends.borrow().iter().find(same).map(|(_, occurs)| *occurs);
        known.unwrap_or_else(|| {
            let occurs = match (&self.lasts, end.rsplit_once('.')) {
                (Some(lasts), Some((_, last))) => lasts.contains(last),
                (Some(lasts), None) => lasts.iter().any(|last| last.ends_with(end)),
                (None, _) => self.table.list.iter().any(|t| t.name.ends_with(end)),
            };
            self.ends.borrow_mut().push((end, occurs));
            occurs
        })
    }

    /// False if nothing that follows the last dot of a name begins so.
    pub fn last_begins(&self, start: &str) -> bool {
        self.lasts.as_ref().is_none_or(|lasts| lasts.iter().any(|last| last.starts_with(start)))
    }

    /// The tensors whose names end so, and what stands before.
    pub fn ending(&self, end: &'static str) -> impl Iterator<Item = (&'a TensorInfo, &'a str)> + use<'a> {
        let list = if self.occurs(end) { &self.table.list[..] } else { &[] };
        list.iter().filter_map(move |t| Some((t, t.name.strip_suffix(end)?)))
    }

    /// The tensors of this name in any module, or in none, and what stands before: `a.` of `a.SCB`,
    /// nothing of `SCB`.
    pub fn named(&self, name: &'static str) -> impl Iterator<Item = (&'a TensorInfo, &'a str)> + use<'a> {
        self.ending(name).filter(|(_, before)| before.is_empty() || before.ends_with('.'))
    }

    /// The tensor whose name is `stem` and then `end`, if there is one.
    pub fn beside(&self, stem: &str, end: &'static str) -> Option<&'a TensorInfo> {
        self.occurs(end).then(|| self.table.beside(stem, end)).flatten()
    }

    /// The tensor whose name is `stem` and then `end`, without which another makes no sense.
    ///
    /// # Errors
    /// [`Error::Malformed`] about the other if there is none.
    pub fn need(&self, other: &TensorInfo, stem: &str, end: &str) -> Result<&'a TensorInfo> {
        self.table.beside(stem, end).ok_or_else(|| {
            let name = shown(&format!("{stem}{end}"));
            self.files.malformed(other, format!("the checkpoint lacks `{name}`"))
        })
    }

    /// The weight of this name, in two pieces, whose scales another tensor holds.
    ///
    /// # Errors
    /// As [`Checkpoint::need`].
    pub fn scaled_by(&self, scale: &TensorInfo, stem: &str, end: &str) -> Result<&'a TensorInfo> {
        self.table.beside(stem, end).ok_or_else(|| {
            let name = shown(&format!("{stem}{end}"));
            let problem = format!("the checkpoint lacks `{name}`, whose scales these are");
            self.files.malformed(scale, problem)
        })
    }
}
