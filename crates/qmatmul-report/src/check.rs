//! What checks found: rows for groups of cases and for single ones, and what is wrong in full.

use crate::{Cell, Column, NotChecked, Verdict, column, counted, machine, plain};
use qmatmul::check::{self, Outcome};
use qmatmul::error::shown;
use qmatmul::gpu::AdapterSummary;
use qmatmul::kernel::Activations;
use std::collections::{BTreeMap, HashSet};

/// Characters of a verdict, without its first word.
const LONGEST_TEXT: usize = 88;

/// Shapes `[m, k]` of random weights that each format is checked with: awkward ones.
pub const SHAPES: &[(usize, usize)] = &[(95, 256), (513, 2048), (1, 4096)];

/// Of a group of cases, and of a single one.
pub const COLUMNS: &[Column] = &[
    column("tensor", "tensor"),
    column("format", "format"),
    column("shape", "shape"),
    column("op", "op"),
    column("activations", "activations"),
    column("n", "n"),
    column("kernel", "kernel"),
    column("cases", "cases"),
    column("worst_nmse", "nmse"),
    column("bound", "bound"),
    column("ok", "result"),
    machine("problem"),
];

/// What is known in the end.
#[derive(Debug)]
pub struct Told<'a> {
    /// All that said something.
    pub outcomes: &'a [Outcome],
    /// Tensors that were to be checked.
    pub count: usize,
    /// Those that could not be checked, or not to the end.
    pub failed: usize,
    /// True if the user ended it before its end.
    pub is_interrupted: bool,
    /// What makes right what was wrong: `, right with --no-f16`.
    pub cure: &'a str,
    /// What was checked otherwise than it was asked for: `, 3 with f32`.
    pub otherwise: &'a str,
    /// What was not checked, or not all of it.
    pub not_checked: Vec<NotChecked>,
}

impl Told<'_> {
    /// What a person wants to know.
    pub fn verdict(self, adapter: &AdapterSummary) -> Verdict {
        let (checks, wrong) =
            (checks(self.outcomes), self.outcomes.iter().filter(|o| !o.comparison.passed).count());
        let tensors = self.outcomes.iter().map(|o| &*o.tensor).collect::<HashSet<_>>().len();
        let of = match tensors {
            tensors if tensors < self.count => format!("{tensors} of {} tensors", self.count),
            tensors => counted(tensors, "tensor"),
        };
        let text = match (checks, wrong, self.failed) {
            (0, ..) => "nothing was compared".to_owned(),
            (_, 1.., _) => format!("{wrong} of {checks} checks{}", self.cure),
            (.., 1..) if !self.is_interrupted => {
                format!("{} could not be checked, {checks} checks are right", counted(self.failed, "tensor"))
            }
            _ => format!("{} on {of}{}", counted(checks, "check"), self.otherwise),
        };
        let is_lacking = (checks == 0 || self.failed > 0) && !self.is_interrupted;
        Verdict {
            is_wrong: wrong > 0 || is_lacking,
            is_interrupted: self.is_interrupted,
            text: with_device(&text, adapter),
            checks: Some(checks),
            tensors: Some(tensors),
            not_checked: self.not_checked,
        }
    }
}

/// How many outcomes said anything.
pub fn checks(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|o| o.comparison.count > 0 || !o.comparison.passed).count()
}

/// A wrong outcome in full.
pub fn describe(o: &Outcome) -> String {
    let (m, k, n) = (o.m, o.k, o.n);
    let place = match (o.place(), o.comparison.worst) {
        _ if o.comparison.refused.is_some() => o.comparison.to_string(),
        (Some((row, column)), Some(worst)) => {
            let (index, got, want) = (worst.index, worst.got, worst.want);
            format!("row {row}, column {column} (index {index}): got {got}, want {want}")
        }
        _ => "lengths differ".into(),
    };
    let behind = if o.comparison.intact { "" } else { "; wrote behind the result" };
    plain(&format!(
        "{}: {} of {} [{m}, {k}], n = {n}, activations {}, by {}: nmse {:.1e}, {place}{behind}",
        shown(&o.tensor),
        o.operation,
        o.format,
        o.activations,
        o.kernel,
        o.comparison.nmse
    ))
}

/// The text with the device in few words, `llvmpipe, Mesa 22.3.6 (LLVM 15.0.6), Vulkan, qmatmul
/// 0.1.0`, of which the longest is cut so that all find their place.
fn with_device(text: &str, adapter: &AdapterSummary) -> String {
    let name = adapter.name.split_once(" (").map_or(&*adapter.name, |(name, _)| name);
    let driver = adapter.driver.strip_prefix(name).map_or(&*adapter.driver, str::trim_start);
    let compiler = adapter.compiler.as_ref().map_or("", |compiler| compiler.name);
    let version = concat!("qmatmul ", env!("CARGO_PKG_VERSION"));
    let parts = [name, driver, &adapter.backend, compiler, version].map(|part| plain(part).to_owned());
    let mut parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    loop {
        let line = format!("{text}: {}", parts.join(", "));
        let longest = parts.iter_mut().max_by_key(|part| part.chars().count());
        match longest.filter(|part| line.chars().count() > LONGEST_TEXT && part.chars().count() > 8) {
            Some(part) => *part = part.chars().take(part.chars().count() - 2).chain(['…']).collect(),
            None => return line,
        }
    }
}

/// False for an outcome that compared no value: it neither passes nor fails.
pub fn says_something(o: &Outcome) -> bool {
    o.comparison.count + o.comparison.skipped > 0 || !o.comparison.passed
}

/// True if nothing was found wrong.
pub fn right(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|o| o.comparison.passed)
}

pub fn is_product(o: &Outcome) -> bool {
    !["dequantize", "get_rows"].contains(&o.operation)
}

/// The bound that decides an outcome: products may differ by rounding, everything else by no bit.
pub fn bound(o: &Outcome) -> f64 {
    let activations = Activations::kinds().find(|a| is_product(o) && a.name() == o.activations);
    activations.map_or(0.0, check::bound)
}

/// How activations were taken, where there were some.
fn activations(o: &Outcome) -> Option<&'static str> {
    is_product(o).then_some(o.activations)
}

/// A row for each format, operation and kind of activations, in the order in which they came.
pub fn groups(outcomes: &[Outcome]) -> Vec<Vec<Cell>> {
    let mut groups: Vec<(&Outcome, Vec<&Outcome>)> = vec![];
    let mut places = BTreeMap::new();
    for o in outcomes {
        let place = *places.entry((o.format, o.operation, activations(o))).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, all)) => all.push(o),
            None => groups.push((o, vec![o])),
        }
    }
    groups.sort_by_key(|(first, _)| outcomes.iter().position(|o| o.format == first.format));
    let row = |(first, all): (&Outcome, Vec<&Outcome>)| {
        // Not a number counts as the worst there is.
        let worst = all.iter().map(|o| o.comparison.nmse).reduce(|a, b| if a >= b { a } else { b });
        vec![
            Cell::Empty,
            first.format.into(),
            Cell::Empty,
            first.operation.into(),
            activations(first).into(),
            Cell::Empty,
            Cell::Empty,
            all.len().into(),
            Cell::Tiny(worst.unwrap_or(0.0)),
            Cell::Tiny(bound(first)),
            Cell::Right(all.iter().all(|o| o.comparison.passed)),
            Cell::Empty,
        ]
    };
    groups.into_iter().map(row).collect()
}

/// All that is to be kept: the [`groups`], and behind them each case that is wrong.
pub fn rows(outcomes: &[Outcome]) -> Vec<Vec<Cell>> {
    let wrong = outcomes.iter().filter(|o| !o.comparison.passed).map(case);
    groups(outcomes).into_iter().chain(wrong).collect()
}

/// The row of a single case.
pub fn case(o: &Outcome) -> Vec<Cell> {
    let all_right = o.comparison.passed && o.comparison.skipped == 0;
    vec![
        o.tensor.clone().into(),
        o.format.into(),
        Cell::shape(&[o.m as u64, o.k as u64]),
        o.operation.into(),
        activations(o).into(),
        is_product(o).then_some(o.n).into(),
        o.kernel.clone().into(),
        Cell::Int(1),
        Cell::Tiny(o.comparison.nmse),
        Cell::Tiny(bound(o)),
        Cell::Right(o.comparison.passed),
        (!all_right).then(|| o.comparison.to_string()).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmatmul::check::{Comparison, Worst};

    #[test]
    fn a_wrong_value_is_placed() {
        let worst = Some(Worst { index: 7, got: 1.5, want: 2.5 });
        let comparison = Comparison { count: 10, nmse: 0.25, worst, passed: false, ..Comparison::nothing() };
        let mut o = Outcome {
            tensor: "w\u{1b}[31m".into(),
            format: "Q4_0",
            m: 5,
            k: 32,
            operation: "matmul",
            n: 2,
            activations: "f32",
            kernel: "gemv:4x64".into(),
            comparison,
        };
        let text = describe(&o);
        for word in ["matmul of Q4_0 [5, 32], n = 2", "gemv:4x64", "row 2, column 1", "got 1.5, want 2.5"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains('\u{1b}'), "names of files do not reach the terminal");
        (o.operation, o.n) = ("dequantize", 0);
        assert!(describe(&o).contains("row 0, column 7"));
        o.comparison.intact = false;
        assert!(describe(&o).contains("wrote behind the result"));
        o.comparison.refused = Some("compiling: no".into());
        assert!(
            describe(&o).ends_with("REFUSED, compiling: no; wrote behind the result"),
            "{}",
            describe(&o)
        );
    }
}
