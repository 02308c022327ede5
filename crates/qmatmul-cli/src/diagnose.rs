//! What to do about a wrong result: which switches of the command make it right, and a report to
//! attach to a driver's bug.

use super::output::without_home;
use qmatmul::check::Outcome;
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::output;
use qmatmul::gpu::{AdapterSummary, Capability, Options, TuningCache};
use qmatmul::kernel::Caps;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A switch that takes something out of a device's way.
#[derive(Clone, Copy)]
enum Switch {
    /// What was measured decides no more.
    Tuning,
    /// One capability is not used.
    Capability(Capability),
    /// wgpu's run-time checks are compiled into shaders.
    Checked,
}

/// All of them, in the order in which they are tried: what was measured first, as each of the
/// others leaves it unused as well.
fn switches() -> impl Iterator<Item = Switch> {
    let capabilities = Capability::by_suspicion().into_iter().map(Switch::Capability);
    std::iter::once(Switch::Tuning).chain(capabilities).chain([Switch::Checked])
}

impl Switch {
    /// As the command has it.
    fn name(self) -> &'static str {
        match self {
            Self::Tuning => "--no-tuning",
            Self::Capability(capability) => capability.argument(),
            Self::Checked => "--checked",
        }
    }

    /// Sets it.
    fn set(self, options: &mut Options) {
        match self {
            Self::Tuning => options.tuning = TuningCache::Off,
            Self::Capability(capability) => options.without.push(capability),
            Self::Checked => options.checked = true,
        }
    }

    /// True if it changes anything on this device.
    fn matters(self, options: &Options, caps: &Caps) -> bool {
        match self {
            Self::Tuning => options.tuning != TuningCache::Off,
            Self::Capability(capability) => capability.is_in(caps),
            Self::Checked => !options.checked,
        }
    }
}

/// What switches do to something that was wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was wrong.
    pub tensor: String,
    /// True if nothing was wrong when it was tried once more as it was: a fault that comes and
    /// goes, of which switches tell nothing.
    pub unsteady: bool,
    /// Switches that make it right.
    pub right_with: Vec<&'static str>,
    /// Those that do not.
    pub wrong_with: Vec<&'static str>,
    /// Those that could not be tried, with the error.
    pub not_tried: Vec<(&'static str, String)>,
}

/// Tries each switch that matters on something that was wrong, if it is wrong again without one;
/// `check` says whether it is right with these options.
pub fn find(
    tensor: String,
    (options, caps): (&Options, &Caps),
    check: impl Fn(&Options) -> Result<bool>,
) -> Finding {
    let unsteady = matches!(check(options), Ok(true));
    let mut finding = Finding { tensor, unsteady, right_with: vec![], wrong_with: vec![], not_tried: vec![] };
    if unsteady {
        return finding;
    }
    for switch in switches().filter(|switch| switch.matters(options, caps)) {
        let mut options = options.clone();
        switch.set(&mut options);
        match check(&options) {
            Ok(true) => finding.right_with.push(switch.name()),
            Ok(false) => finding.wrong_with.push(switch.name()),
            Err(error) => finding.not_tried.push((switch.name(), error.to_string())),
        }
    }
    finding
}

impl Finding {
    /// A line for people.
    pub fn line(&self) -> String {
        let (name, tried) = (shown(&self.tensor), |names: &[&str]| names.join(", "));
        if self.unsteady {
            return format!("{name}: right when it was checked once more, without a switch");
        }
        let mut line = match (&self.right_with[..], &self.wrong_with[..]) {
            ([], []) => format!("{name}: no switch of this command changes anything on this device"),
            ([], wrong) => format!("{name}: still wrong with each of {}", tried(wrong)),
            (right, []) => format!("{name}: right with {}", tried(right)),
            (right, wrong) => {
                format!("{name}: right with {}; still wrong with {}", tried(right), tried(wrong))
            }
        };
        for (name, error) in &self.not_tried {
            line += &format!("; {name} could not be tried: {error}");
        }
        line
    }
}

/// Switches that make all of it right.
pub fn cures(findings: &[Finding]) -> Vec<&'static str> {
    let Some((first, others)) = findings.split_first() else { return vec![] };
    let all = |name: &&&'static str| others.iter().all(|f| f.right_with.contains(name));
    first.right_with.iter().filter(all).copied().collect()
}

/// All that a driver's author would ask for.
#[derive(Serialize)]
pub struct Report<'a> {
    /// Version, commit and wgpu of this command.
    pub qmatmul: serde_json::Value,
    /// When it was written, UTC.
    pub date: String,
    /// Operating system and processor it was built for.
    pub platform: String,
    /// The command line.
    pub command: String,
    pub adapter: &'a AdapterSummary,
    /// What was used, where the adapter has it.
    pub switches: serde_json::Map<String, serde_json::Value>,
    /// The file, if one was checked.
    pub file: Option<String>,
    pub seed: u64,
    /// What was found, for people.
    pub verdict: String,
    pub checks: usize,
    pub failed: usize,
    /// What was not checked, or not all of it, and why.
    pub not_checked: BTreeMap<String, String>,
    /// What switches do to what was wrong.
    pub findings: &'a [Finding],
    /// The wrong ones.
    pub wrong: Vec<&'a Outcome>,
    /// All.
    pub outcomes: &'a [Outcome],
}

/// What these options use where the adapter has it, by the switches' names.
pub fn used(options: &Options) -> serde_json::Map<String, serde_json::Value> {
    let key = |c: &Capability| c.argument().trim_start_matches("--no-").replace('-', "_");
    let capabilities = Capability::ALL.iter().map(|c| (key(c), options.uses(*c)));
    let others = [("tuning", options.tuning != TuningCache::Off), ("checked", options.checked)];
    let others = others.map(|(key, used)| (key.to_owned(), used));
    capabilities.chain(others).map(|(key, used)| (key, used.into())).collect()
}

impl Report<'_> {
    /// Writes it as JSON, whole or not at all, without the path of the user's home.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut report = serde_json::to_value(self)
            .map_err(|e| Error::Argument(format!("the report cannot be written as JSON: {e}")))?;
        hide_home(&mut report);
        let text = format!("{report:#}");
        output::write(path, |sink| {
            sink.put(text.as_bytes())?;
            sink.put(b"\n")
        })
    }
}

/// `~` for the user's home in every text.
fn hide_home(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = without_home(text),
        Value::Array(all) => all.iter_mut().for_each(hide_home),
        Value::Object(fields) => fields.values_mut().for_each(hide_home),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps() -> Caps {
        Caps { cooperative: None, ..Caps::everything() }
    }

    /// A device whose subgroups are broken: only what goes without them is right.
    #[test]
    fn the_switch_that_helps_is_found() {
        let options = Options { tuning: TuningCache::Off, ..Options::default() };
        let finding = find("w".into(), (&options, &caps()), |o| Ok(!o.uses(Capability::Subgroups)));
        assert_eq!(finding.right_with, ["--no-subgroups"]);
        assert_eq!(
            finding.wrong_with,
            ["--no-f16", "--no-int-dot", "--no-int64", "--checked"],
            "none without matrices"
        );
        assert!(finding.line().contains("right with --no-subgroups; still wrong with --no-f16"));
    }

    /// Every other switch leaves what was measured unused too.
    #[test]
    fn a_measured_kernel_that_is_wrong_is_told_from_a_feature() {
        let measured = |o: &Options| o.tuning == TuningCache::Disk && o.without.is_empty();
        let finding = find("w".into(), (&Options::default(), &caps()), |o| Ok(!measured(o)));
        assert_eq!(cures(&[finding])[0], "--no-tuning");
    }

    /// What was wrong before is right at the first try, which is without a switch, and wrong later.
    #[test]
    fn a_fault_that_comes_and_goes_has_no_cure() {
        let (options, tries) = (Options::default(), std::cell::RefCell::new(vec![]));
        let no_f16 = |o: &Options| (!o.uses(Capability::F16), o.tuning == options.tuning);
        let check = |right_at: usize| {
            tries.take();
            find("w".into(), (&options, &caps()), |o| {
                tries.borrow_mut().push(no_f16(o));
                Ok(tries.borrow().len() == right_at)
            })
        };
        let finding = check(1);
        assert!(finding.unsteady && finding.line().contains("once more"));
        assert!(cures(&[finding]).is_empty() && tries.take() == [(false, true)]);
        let steady = check(2);
        assert!(
            !steady.unsteady && steady.right_with == ["--no-tuning"] && tries.borrow()[0] == (false, true)
        );
    }

    #[test]
    fn what_cannot_be_tried_is_told() {
        let error = || Error::DeviceLost("gone".into());
        let options = Options { tuning: TuningCache::Off, ..Options::default() };
        let finding = find("w".into(), (&options, &caps()), |o| match o.uses(Capability::F16) {
            true => Ok(false),
            false => Err(error()),
        });
        assert!(finding.right_with.is_empty() && finding.wrong_with.len() == 4);
        assert_eq!(finding.not_tried, [("--no-f16", error().to_string())]);
        assert!(finding.line().contains("still wrong with each of") && finding.line().contains("gone"));
    }

    #[test]
    fn a_cure_is_one_for_all() {
        let of = |right: &[&'static str]| Finding {
            tensor: "w".into(),
            unsteady: false,
            right_with: right.to_vec(),
            wrong_with: vec![],
            not_tried: vec![],
        };
        assert_eq!(cures(&[of(&["--no-f16", "--checked"]), of(&["--checked"])]), ["--checked"]);
        assert!(cures(&[of(&["--no-f16"]), of(&["--checked"])]).is_empty());
        assert!(cures(&[]).is_empty());
    }
}
