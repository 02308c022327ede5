//! `qmatmul check [FILE]`

use super::diagnose::{self, Finding, Report, describe};
use super::inspect::{glob, select};
use super::list::List;
use super::output::{Cell, Table, plain};
use super::subjects::{Random, Stored, Subject};
use super::{Common, Verdict, lora, progress};
use crate::check::{self, Outcome};
use crate::error::{Error, Result};
use crate::file::Model;
use crate::gpu::Runtime;
use globset::GlobMatcher;
use std::collections::HashSet;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Check {
    /// A model file or checkpoint; without one, every format on built-in shapes
    file: Option<PathBuf>,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob, requires = "file")]
    tensors: Option<GlobMatcher>,
    /// Only tensors that the adapter in this folder (as PEFT saves it) adds to, by themselves and with their bias and what it
    /// adds; may be given several times
    #[arg(long, value_name = "DIR", requires = "file")]
    lora: Vec<PathBuf>,
    /// Batch sizes
    #[arg(short, default_value = "1,8")]
    n: List,
    /// Everything: large shapes, every batch size where kernels change, rounded activations, experts, and every kernel that the
    /// device could be given
    #[arg(long, conflicts_with = "file")]
    full: bool,
    /// Write what was found as JSON, with the adapter and its driver, to attach to a report of a bug
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Batch size above which only memory would be tested.
const MOST_COLUMNS: usize = 1 << 16;
/// Wrong tensors that switches are tried on, and wrong outcomes that are described.
const MOST_FINDINGS: usize = 4;
const MOST_DESCRIBED: usize = 8;

/// All that was checked.
struct Checked<'a> {
    outcomes: Vec<Outcome>,
    /// Those of which something was wrong.
    wrong: Vec<&'a Subject<'a>>,
}

impl Check {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        if let Some(n) = self.n.0.iter().find(|n| **n > MOST_COLUMNS) {
            return Err(Error::Argument(format!("batch size {n} is above {MOST_COLUMNS}")));
        }
        let runtime = common.runtime()?;
        let Some(file) = &self.file else {
            let grid = match self.full {
                true => Random::full(common.activations),
                false => Random::quick(&self.n.0, common.options(None)?.activations),
            };
            return self.finish(common, &runtime, &grid.into_iter().map(Subject::Random).collect::<Vec<_>>());
        };
        let model = common.open(file)?;
        let adapters = lora::open(common, &self.lora)?;
        let all: Vec<_> = match &adapters[..] {
            [] => model.tensors().iter().collect(),
            adapters => lora::tensors(&model, adapters)?,
        };
        let tensors = select(all, self.tensors.as_ref())?;
        let (known, unknown): (Vec<_>, Vec<_>) =
            tensors.into_iter().partition(|info| info.dtype.format().is_some());
        if known.is_empty() {
            let file = file.display().to_string();
            return Err(Error::Argument(format!("{file} holds no tensor in a supported format")));
        }
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.iter().map(|t| format!("{} ({})", t.name, t.dtype.name())).collect();
            common.say(&format!("not checked, format not supported: {}", names.join(", ")));
        }
        let (model, adapters, batches): (&Model, _, _) = (&model, &adapters[..], &self.n.0[..]);
        let stored = |info| Subject::Stored(Stored { model, info, adapters, batches });
        self.finish(common, &runtime, &known.into_iter().map(stored).collect::<Vec<_>>())
    }

    /// Checks all of it, and says what came out.
    fn finish(&self, common: &Common, runtime: &Runtime, subjects: &[Subject]) -> Result<Verdict> {
        let checked = check_all(common, runtime, subjects)?;
        table(&checked.outcomes).print(common.style)?;
        let unmultiplied = no_matmul(&checked.outcomes);
        if !unmultiplied.is_empty() {
            common.say(&format!(
                "not multiplied, weights not finite or without columns: {}",
                unmultiplied.join(", ")
            ));
        }
        let findings = findings(common, runtime, &checked);
        let wrong: Vec<_> = checked.outcomes.iter().filter(|o| !o.comparison.passed).collect();
        wrong.iter().take(MOST_DESCRIBED).for_each(|o| common.say(&describe(o)));
        if wrong.len() > MOST_DESCRIBED {
            common.say(&format!("… and {} more", wrong.len() - MOST_DESCRIBED));
        }
        findings.iter().for_each(|finding| common.say(&finding.line()));
        let verdict = self.verdict(common, runtime, &checked, &findings);
        if let Some(path) = &self.report {
            let report = Report {
                version: env!("CARGO_PKG_VERSION"),
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                command: std::env::args().collect(),
                adapter: runtime.adapter(),
                switches: (&common.gpu_options()).into(),
                file: self.file.as_ref().map(|file| file.display().to_string()),
                seed: common.seed,
                verdict: verdict.clone(),
                checks: checked.outcomes.len(),
                failed: wrong.len(),
                findings: &findings,
                wrong: wrong.clone(),
                outcomes: &checked.outcomes,
            };
            report.write(path)?;
        }
        common.say(&verdict);
        Ok(if wrong.is_empty() { Verdict::Fine } else { Verdict::CheckFailed })
    }

    /// What a person wants to know in the end.
    fn verdict(&self, common: &Common, runtime: &Runtime, checked: &Checked, findings: &[Finding]) -> String {
        let outcomes = &checked.outcomes;
        let wrong = outcomes.iter().filter(|o| !o.comparison.passed).count();
        let tensors = outcomes.iter().map(|o| &*o.tensor).collect::<HashSet<_>>().len();
        let what = if self.file.is_some() { "for this file" } else { "in every format" };
        let adapter = runtime.adapter();
        let device = plain(&format!("{} with {}", adapter.name, adapter.driver));
        if wrong == 0 {
            let worst = outcomes.iter().map(|o| o.comparison.nmse).fold(0.0, f64::max);
            return format!(
                "all {} checks on {tensors} tensors passed: dequantize and get_rows equal bit for bit, matmul nmse at most \
                 {worst:.1e} (bound {:.0e})\n{device} gives the right numbers {what}.",
                outcomes.len(),
                check::bound(common.activations)
            );
        }
        let cure = match &diagnose::cures(findings)[..] {
            [] => "No single switch makes all of it right.".to_owned(),
            [first, ..] => format!("With {first} it is right: use that until the driver is mended."),
        };
        format!(
            "{wrong} of {} checks on {tensors} tensors FAILED\n{device} gives WRONG numbers {what}. {cure}",
            outcomes.len()
        )
    }
}

fn check_all<'a>(common: &Common, runtime: &Runtime, subjects: &'a [Subject<'a>]) -> Result<Checked<'a>> {
    let bar = progress::bar(subjects.len() as u64, common.quiet);
    let mut checked = Checked { outcomes: vec![], wrong: vec![] };
    for subject in subjects {
        bar.set_message(plain(&subject.name()));
        let outcomes = subject.check(common, runtime)?;
        if !right(&outcomes) {
            checked.wrong.push(subject);
        }
        checked.outcomes.extend(outcomes);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(checked)
}

fn right(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|o| o.comparison.passed)
}

/// Tries the command's switches on some of what was wrong, each on a device of its own.
fn findings(common: &Common, runtime: &Runtime, checked: &Checked) -> Vec<Finding> {
    let options = common.gpu_options();
    let some = checked.wrong.iter().take(MOST_FINDINGS);
    let find = |subject: &&Subject| {
        diagnose::find(subject.name(), (&options, runtime.caps()), |options| {
            Ok(right(&subject.check(common, &Runtime::with_options(options)?)?))
        })
    };
    some.map(find).collect()
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["tensor", "format", "m", "k", "operation", "n", "kernel", "nmse", "result"]);
    for o in outcomes {
        let result = if o.comparison.passed { "ok".to_owned() } else { o.comparison.to_string() };
        table.push(vec![
            o.tensor.clone().into(),
            o.format.into(),
            o.m.into(),
            o.k.into(),
            o.operation.into(),
            o.n.into(),
            o.kernel.clone().into(),
            Cell::Tiny(o.comparison.nmse),
            result.into(),
        ]);
    }
    table
}

/// Tensors that were decoded but not multiplied.
fn no_matmul(outcomes: &[Outcome]) -> Vec<&str> {
    let multiplied: HashSet<_> =
        outcomes.iter().filter(|o| o.operation == "matmul").map(|o| &*o.tensor).collect();
    let decoded = outcomes.iter().filter(|o| o.operation == "dequantize").map(|o| &*o.tensor);
    decoded.filter(|name| !multiplied.contains(name)).collect()
}
