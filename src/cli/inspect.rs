//! `qmatmul inspect FILE`

use super::output::{Cell, Style, Table, human_bytes};
use super::{Common, Verdict};
use crate::error::{Error, Result};
use crate::file::TensorInfo;
use globset::{Glob, GlobMatcher};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Inspect {
    /// A .gguf, a .safetensors, a *.safetensors.index.json, or a directory with a checkpoint
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
        (true, Some(glob)) => {
            Err(Error::Argument(format!("no tensor's name matches '{}'", glob.glob().glob())))
        }
        _ => Ok(selected),
    }
}

impl Inspect {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let model = common.open(&self.file)?;
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
