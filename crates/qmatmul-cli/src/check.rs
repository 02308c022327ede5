//! `qmatmul check [FILE]`

use super::check_devices as devices;
use super::checked::Checked;
use super::diagnose::{self, Finding, Report};
use super::inspect::{glob, select};
use super::list::List;
use super::options::{Common, Device, Files, Kernels, Numbers, Output, Seed, output_file};
use super::output::{Results, command_line, now};
use super::subjects::{Products, Random, Stored, Subject};
use super::{Ending, interrupt, lora};
use globset::GlobMatcher;
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::{TensorInfo, output};
use qmatmul::gpu::{Runtime, TuningCache};
use qmatmul_report::built;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Check {
    /// A model file or checkpoint [default: every format]
    file: Option<PathBuf>,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob, requires = "file")]
    tensors: Option<GlobMatcher>,
    /// Only N tensors of each format, spread over the file
    #[arg(long, value_name = "N", requires = "file", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Only tensors that a LoRA adapter adds to, also with it
    #[arg(long, value_name = "DIR|GGUF", requires = "file")]
    lora: Vec<PathBuf>,
    /// Batch sizes of the products
    #[arg(short, value_name = "LIST", default_value = "1,8")]
    n: List,
    /// All kernels, activations and batch sizes: up to hours
    #[arg(long, conflicts_with = "n")]
    full: bool,
    /// Write what was found as JSON, to attach to an issue
    #[arg(long, value_name = "FILE", value_parser = output_file)]
    report: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    kernels: Kernels,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    output: Output,
}

/// Batch size above which only memory would be tested.
const MOST_COLUMNS: usize = 1 << 16;
/// Wrong tensors that switches are tried on.
const MOST_FINDINGS: usize = 4;
/// Names in an error.
const MOST_NAMED: usize = 20;

impl Check {
    pub fn run(&self) -> Result<Ending> {
        if let Some(n) = self.n.0.iter().find(|n| **n > MOST_COLUMNS) {
            return Err(Error::Argument(format!("batch size {n} is above {MOST_COLUMNS}")));
        }
        // Before hours of checks, not after.
        self.report.as_deref().map_or(Ok(()), output::probe)?;
        let common = self.common();
        match &self.file {
            None => self.random(&common),
            Some(file) => self.stored(&common, file),
        }
    }

    fn common(&self) -> Common {
        Common {
            files: self.files.clone(),
            device: self.device.clone(),
            kernels: self.kernels.clone(),
            numbers: self.numbers.clone(),
            seed: self.seed.seed,
            output: self.output.clone(),
        }
    }

    fn random(&self, common: &Common) -> Result<Ending> {
        let activations = common.activations(None)?;
        let runtime = common.runtime()?;
        let grid = match self.full {
            true => Random::full(activations),
            false => Random::quick(&self.n.0, activations),
        };
        let subjects: Vec<_> = grid.into_iter().map(Subject::Random).collect();
        // One weight may be multiplied in several ways.
        let count = subjects.iter().map(Subject::name).collect::<BTreeSet<_>>().len();
        self.finish(common, &runtime, &subjects, Checked::of(common, count, vec![]))
    }

    fn stored(&self, common: &Common, file: &Path) -> Result<Ending> {
        let model = common.open(file)?;
        let adapters = lora::open(common, &self.lora)?;
        if let Some(report) = &self.report {
            model.refuse_as_output(report)?;
            adapters.iter().try_for_each(|adapter| adapter.refuse_as_output(report))?;
        }
        let adapters = lora::on(common, &adapters, &model)?;
        let all: Vec<_> = match &adapters[..] {
            [] => model.tensors().iter().collect(),
            adapters => lora::tensors(adapters)?,
        };
        let tensors = select(all, self.tensors.as_ref())?;
        let count = tensors.len();
        let (known, unsupported): (Vec<_>, Vec<_>) =
            tensors.into_iter().partition(|info| info.dtype.format().is_some());
        if known.is_empty() {
            return Err(none_supported(file, &unsupported));
        }
        let activations = common.activations(Some(&model))?;
        let takes = |info: &&TensorInfo| info.dtype.format().is_some_and(|f| activations.suit_format(f));
        if !known.iter().any(takes) {
            let (file, name) = (file.display(), activations.name());
            return Err(Error::Argument(format!("{file}: none of its weights can take {name} activations")));
        }
        let known = self.sample.map_or_else(|| known.clone(), |count| sample(&known, count as usize));
        let runtime = common.runtime()?;
        let products = match self.full {
            true => Products::Every(activations),
            false => Products::Chosen { batches: &self.n.0, activations },
        };
        let (model, adapters, multiplied) = (&model, &adapters[..], model.multiplied());
        let stored = |info| {
            let is_multiplied = multiplied.contains(info);
            Subject::Stored(Stored { model, info, adapters, is_multiplied, products })
        };
        let subjects: Vec<_> = known.into_iter().map(stored).collect();
        let checked = Checked::of(common, count, unsupported);
        self.finish(common, &runtime, &subjects, checked)
    }

    /// Checks all of it, and says what came out.
    fn finish<'a>(
        &self,
        common: &Common,
        runtime: &Runtime,
        subjects: &'a [Subject<'a>],
        mut checked: Checked<'a>,
    ) -> Result<Ending> {
        interrupt::stop_at_steps();
        let mut results =
            Results::begin(&common.output, Some(runtime.adapter()), qmatmul_report::check::COLUMNS)?;
        let mut printed = Ok(());
        let done = devices::check_all(common, runtime, subjects, &mut |outcomes| {
            // Rows that are printed as soon as they are known; the others wait for their order.
            if results.streams() && printed.is_ok() {
                let some = outcomes.iter().filter(|o| qmatmul_report::check::says_something(o));
                let told = some.filter(|o| common.output.is_verbose() || !o.comparison.passed);
                printed = told.map(qmatmul_report::check::case).try_for_each(|row| results.row(row));
            }
        });
        done.into_iter().zip(subjects).for_each(|(done, subject)| checked.take(subject, done));
        let printed = printed.and_then(|()| checked.rows(&mut results, common.output.is_verbose()));
        let findings = findings(common, runtime, &checked);
        checked.describe(common);
        findings.iter().for_each(|finding| common.say(&finding.line()));
        let verdict = checked.verdict(runtime.adapter(), &findings);
        let line = verdict.line();
        let printed = printed.and_then(|()| results.end(&verdict));
        let report = self.report.as_ref().map(|path| {
            Report {
                qmatmul: built(),
                date: now(),
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                command: command_line(),
                adapter: runtime.adapter(),
                switches: diagnose::used(&common.gpu_options()),
                file: self.file.as_ref().map(|file| file.display().to_string()),
                seed: common.seed,
                verdict: line,
                checks: checked.checks(),
                failed: checked.wrong_outcomes().count(),
                not_checked: checked.not_checked().into_iter().collect::<BTreeMap<_, _>>(),
                findings: &findings,
                wrong: checked.wrong_outcomes().collect(),
                outcomes: &checked.outcomes,
            }
            .write(path)
        });
        checked.ending([report.unwrap_or(Ok(())), printed])
    }
}

fn none_supported(file: &Path, tensors: &[&TensorInfo]) -> Error {
    let names: BTreeSet<_> = tensors.iter().filter_map(|info| info.unsupported()).collect();
    let names: Vec<_> = names.iter().take(MOST_NAMED).map(|name| shown(name)).collect();
    let stored = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    Error::Argument(format!("{} holds no tensor in a supported format{stored}", file.display()))
}

/// So many tensors of each format, spread evenly over those of the file.
fn sample<'a>(tensors: &[&'a TensorInfo], count: usize) -> Vec<&'a TensorInfo> {
    let mut by_format: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, info) in tensors.iter().enumerate() {
        by_format.entry(info.dtype.name()).or_default().push(i);
    }
    let spread = |all: &Vec<usize>| -> Vec<usize> {
        let count = count.min(all.len());
        (0..count).map(|i| all[i * (all.len() - 1) / (count - 1).max(1)]).collect()
    };
    let chosen: BTreeSet<usize> = by_format.values().flat_map(spread).collect();
    chosen.into_iter().map(|i| tensors[i]).collect()
}

/// Tries the command's switches on some of what was wrong, each on a device of its own, unless
/// those would be waited for in vain.
fn findings(common: &Common, runtime: &Runtime, checked: &Checked) -> Vec<Finding> {
    if checked.is_hung() {
        return vec![];
    }
    let mut options = common.gpu_options();
    if runtime.tuning().list().is_empty() {
        // Not worth a try.
        options.tuning = TuningCache::Off;
    }
    let some = checked.wrong.iter().take(MOST_FINDINGS).take_while(|_| !interrupt::is_requested());
    let find = |subject: &&Subject| {
        diagnose::find(subject.name(), (&options, runtime.caps()), |options| {
            let (outcomes, ended) = subject.check(common, &Runtime::with_options(options)?);
            ended.map(|()| qmatmul_report::check::right(&outcomes))
        })
    };
    some.map(find).collect()
}
