//! `qmatmul check [FILE]`

use super::check_devices::{self as devices, Done};
use super::diagnose::{self, Finding, Report, describe};
use super::inspect::{glob, select};
use super::list::List;
use super::output::{Cell, Table, plain};
use super::subjects::{Random, Stored, Subject};
use super::{Common, Verdict, lora};
use globset::GlobMatcher;
use qmatmul::check::{self, Outcome};
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::{Model, TensorInfo, output};
use qmatmul::gpu::{Runtime, TuningCache};
use qmatmul::kernel::Activations;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Check {
    /// A model file or checkpoint; without one, every format on built-in shapes
    file: Option<PathBuf>,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob, requires = "file")]
    tensors: Option<GlobMatcher>,
    /// Only tensors that the adapter in this folder (as PEFT saves it) or GGUF adds to, by
    /// themselves and with their bias and what it adds; may be given several times
    #[arg(long, value_name = "DIR|GGUF", requires = "file")]
    lora: Vec<PathBuf>,
    /// Batch sizes
    #[arg(short, default_value = "1,8")]
    n: List,
    /// Everything: large shapes, every batch size where kernels change, rounded activations,
    /// experts, and every kernel that the device could be given
    #[arg(long, conflicts_with_all = ["file", "n"])]
    full: bool,
    /// Write what was found as JSON, with the adapter and its driver, to attach to a report of a
    /// bug
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Batch size above which only memory would be tested.
const MOST_COLUMNS: usize = 1 << 16;
/// Wrong tensors that switches are tried on, and wrong outcomes that are described.
const MOST_FINDINGS: usize = 4;
const MOST_DESCRIBED: usize = 8;
/// Names in a line of them.
const MOST_NAMED: usize = 20;

/// All that was checked.
#[derive(Default)]
struct Checked<'a> {
    /// Files that the model lies in.
    files: usize,
    /// How activations should be taken.
    asked: &'static str,
    outcomes: Vec<Outcome>,
    /// Those of which something was wrong.
    wrong: Vec<&'a Subject<'a>>,
    /// Names of those without a value to compare.
    empty: Vec<String>,
    /// Names of those that could not be checked, and why.
    failed: Vec<(String, Error)>,
    /// Names of those that no device was left for.
    unreached: Vec<String>,
    /// Those in formats that are not supported.
    unsupported: Vec<&'a TensorInfo>,
}

impl Check {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        if let Some(n) = self.n.0.iter().find(|n| **n > MOST_COLUMNS) {
            return Err(Error::Argument(format!("batch size {n} is above {MOST_COLUMNS}")));
        }
        // Before hours of checks, not after.
        self.report.as_deref().map_or(Ok(()), output::probe)?;
        let runtime = common.runtime()?;
        let Some(file) = &self.file else {
            let grid = match self.full {
                true => Random::full(common.activations(None)?),
                false => Random::quick(&self.n.0, common.activations(None)?),
            };
            let subjects: Vec<_> = grid.into_iter().map(Subject::Random).collect();
            return self.finish(common, &runtime, &subjects, vec![]);
        };
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
        let (known, unknown): (Vec<_>, Vec<_>) =
            tensors.into_iter().partition(|info| info.dtype.format().is_some());
        if known.is_empty() {
            let file = file.display().to_string();
            let names: BTreeSet<_> = unknown.iter().filter_map(|info| info.unsupported()).collect();
            let names: Vec<_> = names.iter().take(MOST_NAMED).map(|name| shown(name)).collect();
            let stored = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            return Err(Error::Argument(format!("{file} holds no tensor in a supported format{stored}")));
        }
        let activations = common.activations(Some(&model))?;
        if !known.iter().any(|info| info.dtype.format().is_some_and(|format| activations.suit_format(format)))
        {
            let (file, name) = (file.display(), activations.name());
            return Err(Error::Argument(format!("{file}: none of its weights can take {name} activations")));
        }
        let (model, adapters, batches): (&Model, _, _) = (&model, &adapters[..], &self.n.0[..]);
        let stored = |info| Subject::Stored(Stored { model, info, adapters, batches });
        let subjects: Vec<_> = known.into_iter().map(stored).collect();
        self.finish(common, &runtime, &subjects, unknown)
    }

    /// Checks all of it, and says what came out.
    fn finish(
        &self,
        common: &Common,
        runtime: &Runtime,
        subjects: &[Subject],
        unsupported: Vec<&TensorInfo>,
    ) -> Result<Verdict> {
        let files = subjects.first().map_or(0, Subject::files);
        let asked = common.activations.name();
        let mut checked = Checked { files, asked, unsupported, ..Checked::default() };
        let done = devices::check_all(common, runtime, subjects);
        done.into_iter().zip(subjects).for_each(|(done, subject)| checked.take(subject, done));
        let printed = table(&checked.outcomes).print(common.style);
        let findings = findings(common, runtime, &checked);
        checked.describe(common);
        findings.iter().for_each(|finding| common.say(&finding.line()));
        let verdict = self.verdict(runtime, &checked, &findings);
        common.say(&verdict);
        let report = self.report.as_ref().map(|path| {
            Report {
                version: env!("CARGO_PKG_VERSION"),
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
                adapter: runtime.adapter(),
                switches: diagnose::used(&common.gpu_options()),
                file: self.file.as_ref().map(|file| file.display().to_string()),
                seed: common.seed,
                verdict,
                checks: checked.checks(),
                failed: checked.wrong_outcomes().count(),
                not_checked: checked.not_checked(),
                findings: &findings,
                wrong: checked.wrong_outcomes().collect(),
                outcomes: &checked.outcomes,
            }
            .write(path)
        });
        checked.ending([report.unwrap_or(Ok(())), printed])
    }

    /// What a person wants to know in the end.
    fn verdict(&self, runtime: &Runtime, checked: &Checked, findings: &[Finding]) -> String {
        let (checks, wrong) = (checked.checks(), checked.wrong_outcomes().count());
        let tensors = checked.outcomes.iter().map(|o| &*o.tensor).collect::<HashSet<_>>().len();
        let (not_checked, what) = match checked.failed.len() + checked.unreached.len() {
            0 if checked.skipped().next().is_some() => (String::new(), "for what was compared"),
            0 if !checked.not_checked().is_empty() => (String::new(), "for what was checked"),
            0 if checked.files > 1 => (String::new(), "for this model"),
            0 if self.file.is_some() => (String::new(), "for this file"),
            0 => (String::new(), "in every format"),
            failed => (format!(", {failed} could not be checked"), "for what was checked"),
        };
        let adapter = runtime.adapter();
        let compiler = adapter.compiler.as_ref().map(|c| format!(" and {}", c.name)).unwrap_or_default();
        let device = plain(&format!("{} with {}{compiler}", adapter.name, adapter.driver));
        if checks == 0 {
            return format!("nothing was compared{not_checked}");
        }
        let otherwise = match checked.otherwise().len() {
            0 => String::new(),
            count => format!("; {count} tensors cannot take {} activations", checked.asked),
        };
        if wrong == 0 {
            return format!(
                "all {checks} checks on {tensors} tensors passed{not_checked}: dequantize and get_rows equal bit for bit\
                 {}{otherwise}\n{device} gives the right numbers {what}.",
                largest_errors(&checked.outcomes)
            );
        }
        let cure = match &diagnose::cures(findings)[..] {
            _ if checked.is_silent() => "It fell silent, so no switch was tried.".to_owned(),
            _ if findings.iter().any(|finding| finding.unsteady) => {
                "It comes and goes: something was right when it was checked once more.".to_owned()
            }
            [] => "No single switch makes all of it right.".to_owned(),
            [first, ..] if findings.len() < checked.wrong.len() => {
                format!("With {first} the first {} are right; the others were not tried.", findings.len())
            }
            [first, ..] => format!("With {first} it is right: use that until the driver is mended."),
        };
        format!(
            "{wrong} of {checks} checks on {tensors} tensors FAILED{not_checked}\n{device} gives WRONG numbers {what}. {cure}"
        )
    }
}

impl<'a> Checked<'a> {
    fn take(&mut self, subject: &'a Subject<'a>, done: Option<Done>) {
        let Some((mut outcomes, ended)) = done else {
            self.unreached.push(subject.name());
            return;
        };
        if !right(&outcomes) {
            self.wrong.push(subject);
        }
        // Nothing is not right: it is nothing.
        outcomes.retain(|o| o.comparison.count + o.comparison.skipped > 0 || !o.comparison.passed);
        match ended {
            Err(error) => self.failed.push((subject.name(), error)),
            Ok(()) if outcomes.is_empty() => self.empty.push(subject.name()),
            Ok(()) => {}
        }
        self.outcomes.extend(outcomes);
    }

    /// True if the device fell silent, as others of the same driver may.
    fn is_silent(&self) -> bool {
        self.failed.iter().any(|(_, error)| matches!(error, Error::TimedOut { .. }))
    }

    /// Names of what was not checked, or not all of it, and why.
    fn not_checked(&self) -> BTreeMap<&str, String> {
        let failed = self.failed.iter().map(|(name, error)| (&**name, error.to_string()));
        let unsupported = |t: &&'a TensorInfo| {
            (&*t.name, format!("{} is not supported", t.unsupported().unwrap_or_default()))
        };
        let not_so = self.not_so();
        let others = [
            (strs(&self.unreached), "the device was gone"),
            (self.unmultiplied(), "not multiplied: its weights are not finite"),
            (self.otherwise(), &*not_so),
        ];
        let named =
            others.into_iter().flat_map(|(names, why)| names.into_iter().map(move |name| (name, why)));
        let named = named.map(|(name, why)| (name, why.to_owned()));
        named.chain(self.unsupported.iter().map(unsupported)).chain(failed).collect()
    }

    /// Tensors that were decoded but not multiplied.
    fn unmultiplied(&self) -> Vec<&str> {
        let names = |operation| move |o: &&Outcome| o.operation == operation;
        let multiplied: HashSet<_> =
            self.outcomes.iter().filter(names("matmul")).map(|o| &*o.tensor).collect();
        let failed: HashSet<_> = self.failed.iter().map(|(name, _)| &**name).collect();
        let decoded = self.outcomes.iter().filter(names("dequantize")).map(|o| &*o.tensor);
        decoded.filter(|name| !multiplied.contains(name) && !failed.contains(name)).collect()
    }

    /// What is said of those that do not take the activations that were asked for.
    fn not_so(&self) -> String {
        format!("multiplied with f32 activations, as {} ones do not suit", self.asked)
    }

    /// Tensors that were multiplied, but not with the activations that were asked for.
    /// `check --full` asks for several.
    fn otherwise(&self) -> Vec<&str> {
        let products = |o: &&Outcome| !["dequantize", "get_rows"].contains(&o.operation);
        let products = self.outcomes.iter().filter(products);
        let names = |is_asked: bool| -> BTreeSet<&str> {
            let these = products.clone().filter(|o| (o.activations == self.asked) == is_asked);
            these.map(|o| &*o.tensor).collect()
        };
        names(false).difference(&names(true)).copied().collect()
    }

    /// How many said anything.
    fn checks(&self) -> usize {
        self.outcomes.iter().filter(|o| o.comparison.count > 0 || !o.comparison.passed).count()
    }

    fn wrong_outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| !o.comparison.passed)
    }

    /// Where not all was compared.
    fn skipped(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.comparison.skipped > 0)
    }

    /// What was wrong, and what is missing.
    fn describe(&self, common: &Common) {
        let with_type = |t: &&TensorInfo| format!("{} ({})", t.name, t.unsupported().unwrap_or_default());
        let unsupported: Vec<_> = self.unsupported.iter().map(with_type).collect();
        for (what, names) in [
            ("not checked, format not supported", strs(&unsupported)),
            (&*self.not_so(), self.otherwise()),
            ("nothing to compare", strs(&self.empty)),
            ("not multiplied, weights not finite", self.unmultiplied()),
            ("not reached, the device was gone", strs(&self.unreached)),
        ] {
            if !names.is_empty() {
                let shown: Vec<_> = names.iter().take(MOST_NAMED).map(|name| shown(name)).collect();
                let more = match names.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                common.say(&format!("{what}: {}{more}", shown.join(", ")));
            }
        }
        for (i, o) in self.skipped().enumerate().take(MOST_DESCRIBED + 1) {
            common.say(&match i {
                MOST_DESCRIBED => format!("… and {} more", self.skipped().count() - i),
                _ => format!("{}, {} n = {}: {}", shown(&o.tensor), o.operation, o.n, o.comparison),
            });
        }
        self.wrong_outcomes().take(MOST_DESCRIBED).for_each(|o| common.say(&describe(o)));
        if let more @ 1.. = self.wrong_outcomes().count().saturating_sub(MOST_DESCRIBED) {
            common.say(&format!("… and {more} more"));
        }
        for (name, error) in &self.failed {
            common.say(&format!("{}: could not be checked: {error}", shown(name)));
        }
    }

    /// How the command ends, given what became of its outputs: wrong numbers come first, then what
    /// could not be checked.
    fn ending(self, outputs: [Result<()>; 2]) -> Result<Verdict> {
        if self.wrong_outcomes().next().is_some() {
            return Verdict::of(false, outputs);
        }
        let checks = self.checks();
        if let Some((_, error)) = self.failed.into_iter().next() {
            return Err(error);
        }
        outputs.into_iter().collect::<Result<()>>()?;
        match checks {
            0 => Err(Error::Argument("no tensor holds a value to compare".into())),
            _ => Ok(Verdict::Fine),
        }
    }
}

/// The largest error of a matmul for each way that activations were taken, and its bound; nothing
/// without any.
fn largest_errors(outcomes: &[Outcome]) -> String {
    let is_product =
        |o: &&Outcome| !["dequantize", "get_rows"].contains(&o.operation) && o.comparison.count > 0;
    let products = outcomes.iter().filter(is_product);
    let largest = |activations: Activations| {
        let errors =
            products.clone().filter(|o| o.activations == activations.name()).map(|o| o.comparison.nmse);
        let bound = check::bound(activations);
        errors.reduce(f64::max).map(|error| match activations {
            Activations::F32 => format!("{error:.1e} (bound {bound:.0e})"),
            rounded => format!("{error:.1e} with activations {} (bound {bound:.0e})", rounded.name()),
        })
    };
    let all: Vec<_> = Activations::kinds().filter_map(largest).collect();
    if all.is_empty() { String::new() } else { format!(", matmul nmse at most {}", all.join(", ")) }
}

/// True if nothing was found wrong.
pub fn right(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|o| o.comparison.passed)
}

/// Tries the command's switches on some of what was wrong, each on a device of its own, unless
/// those would be waited for in vain.
fn findings(common: &Common, runtime: &Runtime, checked: &Checked) -> Vec<Finding> {
    if checked.is_silent() {
        return vec![];
    }
    let mut options = common.gpu_options();
    if runtime.tuning().list().is_empty() {
        // Not worth a try.
        options.tuning = TuningCache::Off;
    }
    let some = checked.wrong.iter().take(MOST_FINDINGS);
    let find = |subject: &&Subject| {
        diagnose::find(subject.name(), (&options, runtime.caps()), |options| {
            let (outcomes, ended) = subject.check(common, &Runtime::with_options(options)?);
            ended.map(|()| right(&outcomes))
        })
    };
    some.map(find).collect()
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["tensor", "format", "m", "k", "operation", "n", "kernel", "nmse", "result"]);
    for o in outcomes {
        let all_right = o.comparison.passed && o.comparison.skipped == 0;
        let result = if all_right { "ok".to_owned() } else { o.comparison.to_string() };
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

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}
