//! `qmatmul inspect FILE`

use super::Ending;
use super::options::{Common, Files, Output, refuse_given};
use super::output::Results;
use globset::{Glob, GlobMatcher};
use qmatmul::error::{Error, Result};
use qmatmul::file::imatrix::{Imatrix, Importance};
use qmatmul::file::{Kind, Model, TensorInfo};
use qmatmul_report::inspect::{COLUMNS, cells, verdict};
use qmatmul_report::{Cell, Column, Verdict, column};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Inspect {
    /// A .gguf, .safetensors, index, checkpoint folder or importance matrix
    file: PathBuf,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    tensors: Option<GlobMatcher>,
    /// What the files say of the model, in place of its tensors; all of it with -v
    #[arg(long, conflicts_with = "tensors")]
    metadata: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
}

/// Of what the files say of a model.
const METADATA_COLUMNS: &[Column] = &[column("key", "key"), column("value", "value")];
/// What is counted of a model.
const COUNTS: &[&str] = &[
    "parameters",
    "context length",
    "layers",
    "embedding length",
    "heads",
    "heads of keys and values",
    "experts",
    "experts used",
    "vocabulary",
];
/// Characters of a value that people see: a template of conversations has thousands.
const LONGEST_VALUE: usize = 200;
/// Of an importance matrix.
const IMATRIX_COLUMNS: &[Column] = &[
    column("weight", "weight"),
    column("matrices", "matrices"),
    column("k", "k"),
    column("count", "count"),
    column("mean_square", "mean square"),
    column("largest", "largest"),
    column("usable", "usable"),
];

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
    pub fn run(&self) -> Result<Ending> {
        let common = Common { files: self.files.clone(), output: self.output.clone(), ..Common::default() };
        if Imatrix::is_dat(&self.file)? {
            self.refuse_metadata()?;
            return self.imatrix(&Imatrix::open(&self.file, &common.open_options())?);
        }
        let model = common.open(&self.file)?;
        if Imatrix::is_one(&model) {
            self.refuse_metadata()?;
            return self.imatrix(&Imatrix::from_model(&model)?);
        }
        let tensors = select(model.tensors(), self.tensors.as_ref())?;
        if self.metadata {
            return self.metadata(&model, &verdict(&tensors));
        }
        let mut results = Results::begin(&self.output, None, COLUMNS)?;
        for t in &tensors {
            results.row(cells(t))?;
        }
        if let Some(hint) = self.hint(&model, &tensors) {
            common.say(&hint);
        }
        results.end(&verdict(&tensors))?;
        Ok(Ending::Fine)
    }

    /// An importance matrix is no model.
    fn refuse_metadata(&self) -> Result<()> {
        let why = format!("on {}: it is an importance matrix, no model", self.file.display());
        refuse_given(&[("--metadata", self.metadata)], why)
    }

    /// What is known of the model, then, where every row was asked for, all keys of its files.
    fn metadata(&self, model: &Model, verdict: &Verdict) -> Result<Ending> {
        let overview = model.overview();
        let mut results = Results::begin(&self.output, None, METADATA_COLUMNS)?;
        for (what, value) in overview.rows() {
            let key = Cell::Json(what.replace(' ', "_").into(), what.into());
            let value = match what {
                "chat template" => Cell::Bool(value == "yes"),
                what if COUNTS.contains(&what) => value.parse::<u64>().ok().into(),
                _ => clipped(&value),
            };
            results.row(vec![key, value])?;
        }
        if self.output.is_verbose() {
            results.section();
            for (key, value) in &overview.entries {
                results.row(vec![key.clone().into(), clipped(value)])?;
            }
        }
        results.end(verdict)?;
        Ok(Ending::Fine)
    }

    /// What can be done with such a file.
    fn hint(&self, model: &Model, tensors: &[&TensorInfo]) -> Option<String> {
        let file = self.file.display();
        tensors.iter().find(|t| t.dtype.format().is_some())?;
        let is_plain = |t: &&TensorInfo| matches!(t.dtype.name(), "F32" | "F16" | "BF16");
        if !tensors.iter().all(is_plain) {
            return Some(format!("next: `qmatmul check {file} --sample 2`, or `qmatmul bench {file}`"));
        }
        Some(match model.kind() {
            Kind::Gguf(_) => format!("next: `qmatmul quantize {file} OUT.gguf --type q8_0` makes it smaller"),
            _ => {
                format!("next: `qmatmul quantize {file} OUT --type nf4` makes a checkpoint folder of 4 bits")
            }
        })
    }

    /// One row a weight: how much its inputs vary, and whether the numbers can be used.
    fn imatrix(&self, imatrix: &Imatrix) -> Result<Ending> {
        let wanted = |e: &&Importance| self.tensors.as_ref().is_none_or(|g| g.is_match(&e.name));
        let entries: Vec<_> = imatrix.entries().iter().filter(wanted).collect();
        if let (true, Some(glob)) = (entries.is_empty(), &self.tensors) {
            return Err(nothing_matches("weight", glob));
        }
        let mut results = Results::begin(&self.output, None, IMATRIX_COLUMNS)?;
        for e in &entries {
            let values = || e.values.iter().map(|v| f64::from(*v));
            results.row(vec![
                e.name.clone().into(),
                e.matrices.into(),
                e.cols().into(),
                Cell::Float(e.count.into(), 0),
                Cell::Tiny(values().sum::<f64>() / e.values.len().max(1) as f64),
                Cell::Tiny(values().reduce(f64::max).unwrap_or(0.0)),
                Cell::Bool(e.is_usable()),
            ])?;
        }
        let chunks = imatrix.chunks.map_or("chunks not told".into(), |n| format!("{n} chunks"));
        let unusable = entries.iter().filter(|e| !e.is_usable()).count();
        let data = match imatrix.datasets.is_empty() {
            true => "no named data".into(),
            false => imatrix.datasets.join(", "),
        };
        let text = format!("{} weights, {unusable} of them not usable; {chunks} of {data}", entries.len());
        results.end(&Verdict { tensors: Some(entries.len()), ..Verdict::ok(text) })?;
        Ok(Ending::Fine)
    }
}

/// A text, of which people see the beginning.
fn clipped(text: &str) -> Cell {
    let shown = match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    };
    Cell::Json(text.into(), shown)
}

fn nothing_matches(what: &str, glob: &GlobMatcher) -> Error {
    Error::Argument(format!("no {what}'s name matches '{}'", glob.glob().glob()))
}
