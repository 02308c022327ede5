//! `qmatmul inspect FILE`

use super::output::{Cell, Style, Table, human_bytes};
use super::{Common, Verdict};
use globset::{Glob, GlobMatcher};
use qmatmul::error::{Error, Result};
use qmatmul::file::TensorInfo;
use qmatmul::file::imatrix::{Imatrix, Importance};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Inspect {
    /// A .gguf (any part of one in several files stands for all), a .safetensors, a
    /// *.safetensors.index.json, or a directory with a checkpoint; or an importance matrix of
    /// llama-imatrix (.gguf, .dat)
    file: PathBuf,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    tensors: Option<GlobMatcher>,
}

/// A glob over tensor names.
pub fn glob(text: &str) -> Result<GlobMatcher, String> {
    Glob::new(text).map(|g| g.compile_matcher()).map_err(|e| e.to_string())
}

/// The tensors that `glob` names, all without one.
///
/// # Errors
/// [`Error::Argument`] if it names none.
pub fn select<'a>(
    all: impl IntoIterator<Item = &'a TensorInfo>,
    glob: Option<&GlobMatcher>,
) -> Result<Vec<&'a TensorInfo>> {
    let selected: Vec<_> = all.into_iter().filter(|t| glob.is_none_or(|g| g.is_match(&t.name))).collect();
    match (selected.is_empty(), glob) {
        (true, Some(glob)) => Err(nothing_matches("tensor", glob)),
        _ => Ok(selected),
    }
}

impl Inspect {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        if Imatrix::is_dat(&self.file)? {
            return self.imatrix(common, &Imatrix::open(&self.file, &common.open_options())?);
        }
        let model = common.open(&self.file)?;
        if Imatrix::is_one(&model) {
            return self.imatrix(common, &Imatrix::from_model(&model)?);
        }
        let tensors = select(model.tensors(), self.tensors.as_ref())?;
        let mut table =
            Table::new(&["tensor", "format", "shape", "bytes", "bits per weight", "supported", "scheme"]);
        for t in &tensors {
            table.push(vec![
                t.name.clone().into(),
                t.dtype.name().into(),
                shape(&t.shape).into(),
                t.bytes.into(),
                Cell::Float(t.bits_per_weight(), 4),
                if t.dtype.format().is_some() { "yes" } else { "no" }.into(),
                t.module.as_ref().map(|m| m.description()).unwrap_or_default().into(),
            ]);
        }
        table.print(common.style)?;
        if common.style == Style::Md {
            common.say(&summary(&tensors));
        }
        Ok(Verdict::Fine)
    }
}

impl Inspect {
    /// One row a weight: how much its inputs vary, and whether the numbers can be used.
    fn imatrix(&self, common: &Common, imatrix: &Imatrix) -> Result<Verdict> {
        let wanted = |e: &&Importance| self.tensors.as_ref().is_none_or(|g| g.is_match(&e.name));
        let entries: Vec<_> = imatrix.entries().iter().filter(wanted).collect();
        if let (true, Some(glob)) = (entries.is_empty(), &self.tensors) {
            return Err(nothing_matches("weight", glob));
        }
        let mut table = Table::new(&["weight", "matrices", "k", "count", "mean square", "largest", "usable"]);
        for e in &entries {
            let values = || e.values.iter().map(|v| f64::from(*v));
            table.push(vec![
                e.name.clone().into(),
                e.matrices.into(),
                e.cols().into(),
                Cell::Float(e.count.into(), 0),
                Cell::Tiny(values().sum::<f64>() / e.values.len().max(1) as f64),
                Cell::Tiny(values().reduce(f64::max).unwrap_or(0.0)),
                if e.is_usable() { "yes" } else { "no" }.into(),
            ]);
        }
        table.print(common.style)?;
        if common.style == Style::Md {
            let chunks = imatrix.chunks.map_or("chunks not told".into(), |n| format!("{n} chunks"));
            let unusable = entries.iter().filter(|e| !e.is_usable()).count();
            common.say(&format!(
                "{} weights, {unusable} of them not usable; {chunks} of {}",
                entries.len(),
                if imatrix.datasets.is_empty() {
                    "no named data".into()
                } else {
                    imatrix.datasets.join(", ")
                }
            ));
        }
        Ok(Verdict::Fine)
    }
}

fn nothing_matches(what: &str, glob: &GlobMatcher) -> Error {
    Error::Argument(format!("no {what}'s name matches '{}'", glob.glob().glob()))
}

fn shape(dims: &[u64]) -> String {
    match dims {
        [] => "scalar".into(),
        _ => dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "),
    }
}

/// One line: how many tensors, bytes and bits per weight, by format.
fn summary(tensors: &[&TensorInfo]) -> String {
    let mut by_format: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for t in tensors {
        let entry = by_format.entry(t.dtype.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + t.bytes);
    }
    let parts: Vec<_> = by_format
        .iter()
        .map(|(name, (count, bytes))| format!("{name} {count} ({})", human_bytes(*bytes)))
        .collect();
    let bytes: u64 = tensors.iter().map(|t| t.bytes).sum();
    let weights: u64 = tensors.iter().map(|t| t.elements()).sum();
    let bits = bytes as f64 * 8.0 / weights.max(1) as f64;
    format!(
        "{} tensors, {weights} weights, {}, {bits:.3} bits per weight: {}",
        tensors.len(),
        human_bytes(bytes),
        parts.join(", ")
    )
}
