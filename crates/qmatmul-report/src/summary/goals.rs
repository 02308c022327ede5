//! What kernels that wait for nothing but memory or arithmetic reach, and which cases do.

use super::measured::Measurements;
use super::record::Case;
use crate::{Cell, Column, column};

/// Bytes that the copies of a weight must have so that no cache holds them.
const BEYOND_CACHES: f64 = 256e6;
/// Share of the peak of matrices that tiles reach.
const LEAST_OF_PEAK: f64 = 0.4;

pub const COLUMNS: &[Column] = &[
    column("goal", "goal"),
    column("cases", "cases"),
    column("reached", "reached"),
    column("farthest", "farthest from it"),
    column("result", "result"),
];

/// Something that kernels should reach.
struct Goal {
    text: String,
    bound: Bound,
    cases: Vec<Judged>,
}

#[derive(Clone, Copy)]
enum Bound {
    /// So large a share.
    Share(f64),
    /// At most so many microseconds.
    Micros(f64),
    /// At most so many times the time of another.
    Slower(f64),
    /// At least so many times as fast as another.
    Faster(f64),
}

/// A case, and its figure in the bound's unit.
struct Judged {
    label: String,
    value: f64,
}

impl Bound {
    /// 1 and more where the bound is kept.
    fn score(self, value: f64) -> f64 {
        match self {
            Self::Share(least) | Self::Faster(least) => value / least,
            Self::Micros(most) | Self::Slower(most) => most / value,
        }
    }

    fn figure(self, value: f64) -> String {
        match self {
            Self::Share(_) => format!("{:.1} %", 100.0 * value),
            Self::Micros(_) => format!("{value:.1} µs"),
            Self::Slower(_) | Self::Faster(_) => format!("{value:.2} ×"),
        }
    }
}

impl Goal {
    /// Of the cases that have a figure.
    fn of(text: impl Into<String>, bound: Bound, cases: impl Iterator<Item = (String, f64)>) -> Self {
        let cases = cases.map(|(label, value)| Judged { label, value }).collect();
        Self { text: text.into(), bound, cases }
    }

    fn row(&self) -> Vec<Cell> {
        let score = |judged: &&Judged| self.bound.score(judged.value);
        let reached = self.cases.iter().filter(|judged| score(judged) >= 1.0).count();
        let farthest = self.cases.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
        let said = farthest.map(|j| format!("{}: {}", j.label, self.bound.figure(j.value)));
        let result = match self.cases.len() {
            0 => "not measured",
            all if all == reached => "reached",
            _ => "missed",
        };
        vec![self.text.clone().into(), self.cases.len().into(), reached.into(), said.into(), result.into()]
    }
}

/// Formats that are as costly to decode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// Codes of 4 to 8 bits with their scales.
    Codes,
    /// Superblocks, whose scales are packed as well.
    Superblocks,
    /// Codebooks, and superblocks with codebooks.
    Codebooks,
}

impl Class {
    /// None of formats whose share of the copy bandwidth says little: fewer bits, or plain numbers.
    pub fn of(case: &Case) -> Option<Self> {
        let name = &*case.weight.format;
        match name {
            _ if name.starts_with("IQ") => Some(Self::Codebooks),
            _ if name.starts_with('Q') && name.ends_with("_K") => Some(Self::Superblocks),
            _ if (4.0..10.0).contains(&case.bits()) => Some(Self::Codes),
            _ => None,
        }
    }

    /// The share of the copy bandwidth at n = 1.
    pub fn least_of_copy(self) -> f64 {
        match self {
            Self::Codes => 0.8,
            Self::Superblocks => 0.75,
            Self::Codebooks => 0.6,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Codes => "formats of 4 to 8 bits",
            Self::Superblocks => "K formats",
            Self::Codebooks => "IQ formats",
        }
    }
}

/// One row a goal, under [`COLUMNS`].
pub fn rows(measured: &Measurements) -> Vec<Vec<Cell>> {
    let mut goals: Vec<Goal> =
        [Class::Codes, Class::Superblocks, Class::Codebooks].map(|class| of_copy(measured, class)).into();
    if measured.device_words().any(|word| word == "H200") {
        goals.push(of_33_mb(measured));
    }
    goals.extend([of_eight(measured), of_peak(measured), of_q8(measured)]);
    let mut rows: Vec<_> = goals.iter().map(Goal::row).collect();
    rows.push(of_results(measured));
    rows
}

fn exact(measured: &Measurements, n: u64) -> impl Iterator<Item = &Case> {
    measured.cases.iter().filter(move |case| case.n == n && case.weight.activations == "f32")
}

fn of_copy(measured: &Measurements, class: Class) -> Goal {
    let least = class.least_of_copy();
    let beyond = exact(measured, 1).filter(|case| case.footprint() >= BEYOND_CACHES);
    let cases = beyond.filter(|case| Class::of(case) == Some(class));
    let text = format!("n = 1, {}: {:.0} % of the copy bandwidth", class.name(), 100.0 * least);
    Goal::of(text, Bound::Share(least), cases.filter_map(|case| Some((case.label(), case.copy_fraction?))))
}

fn of_33_mb(measured: &Measurements) -> Goal {
    let cases = exact(measured, 1)
        .filter(|case| (32e6..34e6).contains(&case.packed()) && case.footprint() >= BEYOND_CACHES);
    let cases = cases.map(|case| (case.label(), case.micros));
    Goal::of("n = 1, matrices of 33 MB: at most 20 µs", Bound::Micros(20.0), cases)
}

fn of_eight(measured: &Measurements) -> Goal {
    let ratio = |case: &Case| Some((case.label(), case.micros / measured.find(&case.weight, 1)?.micros));
    let text = "n = 8: at most twice the time of n = 1";
    Goal::of(text, Bound::Slower(2.0), exact(measured, 8).filter_map(ratio))
}

/// Of what the device's matrices do with activations of f16; where it has none, of f32 arithmetic.
fn of_peak(measured: &Measurements) -> Goal {
    let (activations, said) = if measured.has_matrices() { ("f16", ", f16") } else { ("f32", "") };
    let peak = measured.peak_for(activations);
    let cases = measured.cases.iter().filter(|c| c.n == 512 && c.weight.activations == activations);
    let share = |case: &Case| Some((case.label(), case.tera_flops / peak?.tera_ops));
    let kind = peak.map_or("peak", |peak| &peak.kind);
    let text = format!("n = 512{said}: {:.0} % of the measured {kind}", 100.0 * LEAST_OF_PEAK);
    Goal::of(text, Bound::Share(LEAST_OF_PEAK), cases.filter_map(share))
}

fn of_q8(measured: &Measurements) -> Goal {
    let cases = measured.cases.iter().filter(|case| case.n == 512 && case.weight.activations == "q8");
    let ratio = |case: &Case| Some((case.label(), measured.ratio_to_f32(case)?));
    let text = "n = 512: q8 2.5 times as fast as f32";
    Goal::of(text, Bound::Faster(2.5), cases.filter_map(ratio))
}

/// What was compared with the reference.
fn of_results(measured: &Measurements) -> Vec<Cell> {
    let (checks, wrong) = (measured.checks, &measured.wrong);
    let result = match (checks, wrong.len()) {
        (_, 1..) => "missed",
        (0, _) => "not measured",
        _ => "reached",
    };
    let reached = checks.saturating_sub(wrong.len() as u64);
    let text = "results: equal to the CPU reference within their bounds";
    vec![text.into(), checks.into(), reached.into(), wrong.first().cloned().into(), result.into()]
}
