//! What `qmatmul check` found: rows, a description of what is wrong or missing, and the verdict.

use super::Ending;
use super::check_devices::Done;
use super::diagnose::{self, Finding};
use super::interrupt;
use super::options::Common;
use super::output::Results;
use super::subjects::Subject;
use qmatmul::check::Outcome;
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::TensorInfo;
use qmatmul::gpu::AdapterSummary;
use qmatmul_report::check::{Told, case, checks, describe, groups, is_product, right, says_something};
use qmatmul_report::{NotChecked, Verdict, plain};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Wrong outcomes that are described.
const MOST_DESCRIBED: usize = 8;
/// Names in a line of them.
const MOST_NAMED: usize = 20;

/// All that was checked.
pub struct Checked<'a> {
    /// Tensors that were to be checked, supported or not.
    count: usize,
    /// How activations should be taken.
    asked: &'static str,
    pub outcomes: Vec<Outcome>,
    /// Those of which something was wrong.
    pub wrong: Vec<&'a Subject<'a>>,
    /// Names of those without a value to compare.
    empty: Vec<String>,
    /// Names of those that could not be checked, and why.
    failed: Vec<(String, Error)>,
    /// Names of those that no device was left for.
    unreached: Vec<String>,
    /// Names of those that should have been multiplied.
    products: HashSet<String>,
    /// Those in formats that are not supported.
    unsupported: Vec<&'a TensorInfo>,
}

impl<'a> Checked<'a> {
    /// Nothing yet, of so many tensors, of which these cannot be.
    pub fn of(common: &Common, count: usize, unsupported: Vec<&'a TensorInfo>) -> Self {
        Self {
            count,
            asked: common.numbers.activations.name(),
            outcomes: vec![],
            wrong: vec![],
            empty: vec![],
            failed: vec![],
            unreached: vec![],
            products: HashSet::new(),
            unsupported,
        }
    }

    pub fn take(&mut self, subject: &'a Subject<'a>, done: Option<Done>) {
        let Some((mut outcomes, ended)) = done else {
            self.unreached.push(subject.name());
            return;
        };
        if subject.is_multiplied() {
            self.products.insert(subject.name());
        }
        if !right(&outcomes) {
            self.wrong.push(subject);
        }
        outcomes.retain(says_something);
        match ended {
            Err(error) => self.failed.push((subject.name(), error)),
            Ok(()) if outcomes.is_empty() => self.empty.push(subject.name()),
            Ok(()) => {}
        }
        self.outcomes.extend(outcomes);
    }

    /// True if the device hung, as others of the same driver may.
    pub fn is_hung(&self) -> bool {
        self.failed.iter().any(|(_, error)| matches!(error, Error::TimedOut { .. }))
    }

    /// What was not checked, or not all of it, and why.
    pub fn not_checked(&self) -> Vec<(String, String)> {
        let unreached = if interrupt::is_requested() { "interrupted" } else { "the device was gone" };
        let not_so = self.not_so();
        let failed = self.failed.iter().map(|(name, error)| (name.clone(), error.to_string()));
        let unsupported = self.unsupported.iter().map(|info| {
            (info.name.clone(), format!("{} is not supported", info.unsupported().unwrap_or_default()))
        });
        let others = [
            (strs(&self.unreached), unreached),
            (strs(&self.empty), "nothing to compare"),
            (self.unmultiplied(), "not multiplied: its weights are not finite"),
            (self.otherwise(), &*not_so),
        ];
        let named = others
            .into_iter()
            .flat_map(|(names, why)| names.into_iter().map(move |name| (name.to_owned(), why.to_owned())));
        // One that failed says more than that it was not multiplied.
        let all: BTreeMap<String, String> = named.chain(unsupported).chain(failed).collect();
        all.into_iter().collect()
    }

    /// Tensors that were decoded but, unlike their like, not multiplied.
    fn unmultiplied(&self) -> Vec<&str> {
        let products = self.outcomes.iter().filter(|o| is_product(o));
        let multiplied: HashSet<_> = products.map(|o| &*o.tensor).collect();
        let failed: HashSet<_> = self.failed.iter().map(|(name, _)| &**name).collect();
        let decoded = self.outcomes.iter().filter(|o| o.operation == "dequantize").map(|o| &*o.tensor);
        let is_left_out = |name: &&str| {
            self.products.contains(*name) && !multiplied.contains(name) && !failed.contains(name)
        };
        decoded.filter(is_left_out).collect()
    }

    /// What is said of those that do not take the activations that were asked for.
    fn not_so(&self) -> String {
        format!("multiplied with f32 activations, as {} ones do not suit", self.asked)
    }

    /// Tensors that were multiplied, but not with the activations that were asked for.
    /// `check --full` asks for several.
    fn otherwise(&self) -> Vec<&str> {
        let products = self.outcomes.iter().filter(|o| is_product(o));
        let names = |is_asked: bool| -> BTreeSet<&str> {
            let these = products.clone().filter(|o| (o.activations == self.asked) == is_asked);
            these.map(|o| &*o.tensor).collect()
        };
        names(false).difference(&names(true)).copied().collect()
    }

    /// How many said anything.
    pub fn checks(&self) -> usize {
        checks(&self.outcomes)
    }

    pub fn wrong_outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| !o.comparison.passed)
    }

    /// Where not all was compared.
    fn skipped(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.comparison.skipped > 0)
    }

    /// The rows that were not printed as soon as they were known: every case, or those that are
    /// wrong, and where single cases were not asked for, what sums them up.
    pub fn rows(&self, results: &mut Results, every: bool) -> Result<()> {
        if !every {
            groups(&self.outcomes).into_iter().try_for_each(|row| results.row(row))?;
            results.section();
        }
        if !results.streams() {
            let told = self.outcomes.iter().filter(|o| every || !o.comparison.passed);
            told.map(case).try_for_each(|row| results.row(row))?;
        }
        Ok(())
    }

    /// What was wrong, and what is missing.
    pub fn describe(&self, common: &Common) {
        let with_type = |t: &&TensorInfo| format!("{} ({})", t.name, t.unsupported().unwrap_or_default());
        let unsupported: Vec<_> = self.unsupported.iter().map(with_type).collect();
        let unreached =
            if interrupt::is_requested() { "interrupted before" } else { "the device was gone before" };
        for (what, names) in [
            ("not checked, format not supported", strs(&unsupported)),
            (&*self.not_so(), self.otherwise()),
            ("nothing to compare", strs(&self.empty)),
            ("not multiplied, weights not finite", self.unmultiplied()),
            (unreached, strs(&self.unreached)),
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
        // What is wrong is said with --quiet, too.
        let complain = |line: &str| super::output::write_stderr(line);
        self.wrong_outcomes().take(MOST_DESCRIBED).for_each(|o| complain(&describe(o)));
        if let more @ 1.. = self.wrong_outcomes().count().saturating_sub(MOST_DESCRIBED) {
            complain(&format!("… and {more} more"));
        }
        for (name, error) in &self.failed {
            complain(&plain(&format!("{}: could not be checked: {error}", shown(name))));
        }
    }

    /// What a person wants to know in the end.
    pub fn verdict(&self, adapter: &AdapterSummary, findings: &[Finding]) -> Verdict {
        let named = |(tensor, reason)| NotChecked { tensor, reason };
        let told = Told {
            outcomes: &self.outcomes,
            count: self.count,
            failed: self.failed.len() + self.unreached.len(),
            is_interrupted: interrupt::is_requested(),
            cure: &self.cure(findings),
            otherwise: &self.otherwise_said(),
            not_checked: self.not_checked().into_iter().map(named).collect(),
        };
        told.verdict(adapter)
    }

    /// How many were multiplied otherwise than it was asked for, or not at all.
    fn otherwise_said(&self) -> String {
        let counts = [(self.otherwise().len(), "with f32"), (self.unmultiplied().len(), "not multiplied")];
        let said =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!(", {count} {how}"));
        said.collect()
    }

    /// The switch that makes right what was wrong, where there is one.
    fn cure(&self, findings: &[Finding]) -> String {
        match &diagnose::cures(findings)[..] {
            _ if findings.iter().any(|finding| finding.unsteady) => ", intermittent".to_owned(),
            [first, ..] if findings.len() == self.wrong.len() => format!(", right with {first}"),
            [first, ..] => format!(", the first {} right with {first}", findings.len()),
            [] => String::new(),
        }
    }

    /// How the command ends, given what became of its outputs: wrong numbers come first, then what
    /// could not be checked.
    pub fn ending(self, outputs: [Result<()>; 2]) -> Result<Ending> {
        if self.wrong_outcomes().next().is_some() {
            return Ending::of(false, outputs);
        }
        let checks = self.checks();
        if let Some((_, error)) = self.failed.into_iter().next() {
            // One error is the command's; others are said as well.
            let _ = Ending::of(false, outputs)?;
            return Err(error);
        }
        match checks {
            0 if !interrupt::is_requested() => {
                outputs.into_iter().collect::<Result<()>>()?;
                Err(Error::Argument("no tensor holds a value to compare".into()))
            }
            _ => Ending::of(true, outputs),
        }
    }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}
