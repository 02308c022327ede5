//! What all records of a device say together.

use super::record::{Case, Record, Weight, number, text};
use serde_json::{Map, Value};

/// The largest number that a kind of arithmetic reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// `f32 fma`, `f16 matrices 16x16`
    pub kind: String,
    pub tera_ops: f64,
}

/// A kernel that `tune` timed.
#[derive(Clone, Debug)]
pub struct Trial {
    pub weight: Weight,
    pub n: u64,
    /// `gemv:4x64`
    pub kernel: String,
    /// Microseconds of the median; none if it could not be chosen.
    pub micros: Option<f64>,
    /// Its place in the table that decides where nothing was measured.
    pub order: u64,
    pub chosen: bool,
    pub problem: String,
}

/// Figures of one adapter.
pub struct Measurements {
    pub device: Map<String, Value>,
    /// In the order in which they were measured; of several runs of a case the fastest.
    pub cases: Vec<Case>,
    pub peaks: Vec<Peak>,
    /// The figures of `peak`, as its rows have them.
    pub figures: Vec<Map<String, Value>>,
    /// Kernels that were tried, a list for each matmul.
    pub trials: Vec<Vec<Trial>>,
    /// Results that were compared with the reference.
    pub checks: u64,
    /// What was wrong, in words.
    pub wrong: Vec<String>,
}

impl Measurements {
    /// Of records of one device.
    pub fn of(records: &[Record]) -> Self {
        let mut all = Self {
            device: records.iter().find_map(Record::device).cloned().unwrap_or_default(),
            cases: vec![],
            peaks: vec![],
            figures: vec![],
            trials: vec![],
            checks: 0,
            wrong: vec![],
        };
        records.iter().for_each(|record| all.take(record));
        all
    }

    fn take(&mut self, record: &Record) {
        record.cases().for_each(|case| self.add(case));
        let checks = record.verdict.as_ref().and_then(|verdict| verdict.get("checks")?.as_u64());
        match record.verb() {
            "peak" => self.take_peak(&record.rows),
            "tune" => self.take_trials(&record.rows),
            // Kernels that are wrong are not chosen: `tune` says so, and goes on.
            _ => self.wrong.extend(record.wrong().map(|row| wrong(record, row))),
        }
        if record.verb() != "tune" {
            self.checks += checks.unwrap_or(0);
        }
    }

    fn add(&mut self, case: Case) {
        match self.cases.iter_mut().find(|other| (&other.weight, other.n) == (&case.weight, case.n)) {
            Some(other) if other.micros > case.micros => *other = case,
            Some(_) => {}
            None => self.cases.push(case),
        }
    }

    fn take_peak(&mut self, rows: &[Map<String, Value>]) {
        self.figures.extend(rows.iter().cloned());
        let arithmetic = rows.iter().filter(|row| text(row, "unit") == "Tops/s");
        let peak = |row| Some(Peak { kind: text(row, "figure").to_owned(), tera_ops: number(row, "value")? });
        self.peaks.extend(arithmetic.filter_map(peak));
    }

    fn take_trials(&mut self, rows: &[Map<String, Value>]) {
        for trial in rows.iter().filter_map(Trial::of) {
            let is_like = |others: &&mut Vec<Trial>| {
                others.first().is_some_and(|other| (&other.weight, other.n) == (&trial.weight, trial.n))
            };
            match self.trials.iter_mut().find(is_like) {
                Some(others) => others.push(trial),
                None => self.trials.push(vec![trial]),
            }
        }
    }

    /// The case of a weight with so many tokens.
    pub fn find(&self, weight: &Weight, n: u64) -> Option<&Case> {
        self.cases.iter().find(|case| case.weight == *weight && case.n == n)
    }

    /// How many times as fast a case is as the same with f32 activations.
    pub fn ratio_to_f32(&self, case: &Case) -> Option<f64> {
        let exact = Weight { activations: "f32".into(), ..case.weight.clone() };
        Some(self.find(&exact, case.n)?.micros / case.micros).filter(|_| exact != case.weight)
    }

    /// True if the device multiplies matrices.
    pub fn has_matrices(&self) -> bool {
        self.peaks.iter().any(Peak::is_of_matrices)
    }

    /// The arithmetic that a matmul with such activations can do at best.
    pub fn peak_for(&self, activations: &str) -> Option<&Peak> {
        let fits = |peak: &&Peak| match activations {
            "f16" if self.has_matrices() => peak.is_of_matrices(),
            "f16" => peak.kind.starts_with("f16"),
            "f32" => peak.kind.starts_with("f32"),
            _ => peak.kind.starts_with("int8"),
        };
        self.peaks.iter().filter(fits).max_by(|a, b| a.tera_ops.total_cmp(&b.tera_ops))
    }

    /// The words of the adapter's name.
    pub fn device_words(&self) -> impl Iterator<Item = &str> {
        text(&self.device, "name").split_whitespace()
    }

    /// True if the adapter is a software driver.
    pub fn is_on_cpu(&self) -> bool {
        text(&self.device, "kind") == "Cpu"
    }
}

impl Peak {
    fn is_of_matrices(&self) -> bool {
        self.kind.contains("matrices")
    }
}

impl Trial {
    fn of(row: &Map<String, Value>) -> Option<Self> {
        let whole = |key: &str| row.get(key).and_then(Value::as_u64);
        let kernel = match text(row, "variant") {
            "" => text(row, "kernel").to_owned(),
            variant => format!("{}:{variant}", text(row, "kernel")),
        };
        Some(Self {
            weight: Weight::of(row)?,
            n: whole("n")?,
            kernel,
            micros: number(row, "median_us"),
            // What was only listed has none.
            order: whole("order")?,
            chosen: row.get("chosen") == Some(&Value::Bool(true)),
            problem: text(row, "problem").to_owned(),
        })
    }
}

/// Which result of a record is wrong.
fn wrong(record: &Record, row: &Map<String, Value>) -> String {
    let parts = ["tensor", "format", "op", "activations", "kernel", "problem"].map(|key| text(row, key));
    let dimensions = ["m", "k", "n"].map(|key| Some(format!("{key} = {}", row.get(key)?.as_u64()?)));
    let parts = parts.into_iter().map(str::to_owned).chain(dimensions.into_iter().flatten());
    let parts = parts.filter(|part| !part.is_empty());
    format!("{}: {}", record.name, parts.collect::<Vec<_>>().join(", "))
}
