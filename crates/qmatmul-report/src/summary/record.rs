//! A recorded run of a verb, and the measured cases in it.

use crate::counted;
use serde_json::{Map, Value};

/// What `-f json` or `jsonl` printed of one run.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file, without its folder and ending.
    pub name: String,
    pub head: Map<String, Value>,
    pub rows: Vec<Map<String, Value>>,
    /// None of a run that was killed.
    pub verdict: Option<Map<String, Value>>,
}

impl Record {
    /// `bench` of `qmatmul bench -t q4_0`.
    pub fn verb(&self) -> &str {
        self.command().split(' ').nth(1).unwrap_or_default()
    }

    /// The command line.
    pub fn command(&self) -> &str {
        text(&self.head, "command")
    }

    /// The adapter that took part, if one did.
    pub fn device(&self) -> Option<&Map<String, Value>> {
        self.head.get("device").and_then(Value::as_object)
    }

    /// What the run ended with, in words.
    pub fn ending(&self) -> String {
        let Some(verdict) = &self.verdict else {
            return format!("killed after {}", counted(self.rows.len(), "row"));
        };
        let is = |key| verdict.get(key).and_then(Value::as_bool).unwrap_or(false);
        let word = match (is("ok"), is("interrupted")) {
            (true, _) => "OK",
            (false, true) => "INTERRUPTED",
            (false, false) => "WRONG",
        };
        format!("{word} {}", text(verdict, "text"))
    }

    /// Results that are not right. What sums up several of them is none.
    pub fn wrong(&self) -> impl Iterator<Item = &Map<String, Value>> {
        let is_sum = |row: &Map<String, Value>| row.contains_key("cases") && row["tensor"].is_null();
        self.rows.iter().filter(move |row| row.get("ok") == Some(&Value::Bool(false)) && !is_sum(row))
    }

    /// The cases of a run of `bench` on a GPU adapter.
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        let is_bench = self.verb() == "bench" && self.device().is_some();
        self.rows.iter().filter(move |_| is_bench).filter_map(Case::of)
    }
}

/// A text of a row; empty where there is none.
pub fn text<'a>(row: &'a Map<String, Value>, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a row.
pub fn number(row: &Map<String, Value>, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

/// A matmul `y[n, m] = x[n, k] · w[m, k]ᵀ` that `bench` measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub weight: Weight,
    pub n: u64,
    /// Microseconds of the median.
    pub micros: f64,
    pub gb_per_s: f64,
    /// Packed bytes a second as a share of the copy bandwidth.
    pub copy_fraction: Option<f64>,
    pub tera_flops: f64,
    /// Copies of the weight that were used in turn.
    pub copies: u64,
    pub kernel: String,
}

/// What a matmul is of, for any number of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Weight {
    pub format: String,
    pub activations: String,
    pub m: u64,
    pub k: u64,
}

impl Case {
    /// Of a row of `bench`, unless it is wrong, or the sum over the matrices of a model.
    fn of(row: &Map<String, Value>) -> Option<Self> {
        let whole = |key: &str| row.get(key).and_then(Value::as_u64);
        let is_right = row.get("ok") == Some(&Value::Bool(true));
        Some(Self {
            weight: Weight::of(row).filter(|weight| !weight.format.is_empty() && is_right)?,
            n: whole("n")?,
            micros: number(row, "median_us").filter(|micros| *micros > 0.0)?,
            gb_per_s: number(row, "weight_gb_per_s")?,
            copy_fraction: number(row, "copy_fraction"),
            tera_flops: number(row, "tflop_per_s")?,
            copies: whole("copies")?,
            kernel: text(row, "kernel").to_owned(),
        })
    }

    /// Bytes of the packed weight.
    pub fn packed(&self) -> f64 {
        self.gb_per_s * self.micros * 1e3
    }

    /// Bytes of all copies that were used in turn.
    pub fn footprint(&self) -> f64 {
        self.packed() * self.copies as f64
    }

    /// Bits of a weight, with its share of the scales.
    pub fn bits(&self) -> f64 {
        8.0 * self.packed() / (self.weight.m as f64 * self.weight.k as f64)
    }

    /// `Q4_0, 4096 × 14336`, with the activations where they are not f32, and n where it is not 1.
    pub fn label(&self) -> String {
        let Self { weight, n, .. } = self;
        let activations = match &*weight.activations {
            "f32" => String::new(),
            other => format!(", {other}"),
        };
        let n = if *n == 1 { String::new() } else { format!(", n = {n}") };
        format!("{}, {}{activations}{n}", weight.format, weight.shape())
    }
}

impl Weight {
    /// Of a row of `bench` or `tune`.
    pub fn of(row: &Map<String, Value>) -> Option<Self> {
        let whole = |key: &str| row.get(key).and_then(Value::as_u64);
        let [format, activations] = ["format", "activations"].map(|key| text(row, key).to_owned());
        Some(Self { format, activations, m: whole("m")?, k: whole("k")? })
    }

    /// `4096 × 14336`
    pub fn shape(&self) -> String {
        format!("{} × {}", self.m, self.k)
    }
}
