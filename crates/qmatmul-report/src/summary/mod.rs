//! What recorded runs of one device say together: shares of what the device can do, and which of
//! them are as large as they should be.

mod goals;
mod measured;
mod record;

pub use measured::Measurements;
pub use record::{Case, Record, Weight};

use crate::{Cell, Column, column};
use goals::Class;
use record::{number, text};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A part of the page.
#[derive(Clone, Debug)]
pub struct Section {
    pub title: &'static str,
    /// Paragraphs above the table.
    pub text: Vec<String>,
    pub columns: &'static [Column],
    pub rows: Vec<Vec<Cell>>,
}

/// Numbers of tokens that have a column, with it.
const TOKENS: [(u64, Column); 12] = [
    (1, column("n_1", "n = 1")),
    (2, column("n_2", "2")),
    (3, column("n_3", "3")),
    (4, column("n_4", "4")),
    (8, column("n_8", "8")),
    (16, column("n_16", "16")),
    (32, column("n_32", "32")),
    (64, column("n_64", "64")),
    (128, column("n_128", "128")),
    (256, column("n_256", "256")),
    (512, column("n_512", "512")),
    (1024, column("n_1024", "1024")),
];
/// From so many tokens on arithmetic is the bound.
const COMPUTE_BOUND: u64 = 64;
/// Kernels that could not be chosen, and results that are wrong, of which each is named.
const MOST_NAMED: usize = 12;

/// The name of a folder of records of one adapter and driver: `llvmpipe-mesa-22.3.6`. What stands
/// in parentheses, words that come again, and a distribution's revision of the driver are left out.
pub fn folder_name(device: &Map<String, Value>) -> String {
    let mut parts: Vec<String> = vec![];
    for word in ["name", "driver"].into_iter().flat_map(|key| words(text(device, key))) {
        if !parts.contains(&word) {
            parts.push(word);
        }
    }
    let joined = parts.join("-");
    let safe = joined.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' });
    let safe = safe.collect::<String>();
    let parts: Vec<&str> = safe.split('-').filter(|part| !part.trim_matches('.').is_empty()).collect();
    match &*parts.join("-") {
        "" => "adapter".into(),
        name => name[..name.len().min(100)].to_owned(),
    }
}

/// The words of a name in small letters, without what stands in parentheses; of `26.2.6-1` the part
/// before the revision.
fn words(name: &str) -> Vec<String> {
    let mut depth = 0;
    let outside = name.chars().filter(|c| {
        depth += i32::from(*c == '(');
        let is_outside = depth == 0;
        depth -= i32::from(*c == ')' && depth > 0);
        is_outside
    });
    let outside: String = outside.collect();
    let word = |word: &str| match word.split_once('-') {
        Some((version, _)) if word.starts_with(|c: char| c.is_ascii_digit()) => version.to_lowercase(),
        _ => word.to_lowercase(),
    };
    outside.split_whitespace().map(word).collect()
}

/// What two records are of, if that is not the same adapter and driver.
pub fn two_devices(records: &[Record]) -> Option<[String; 2]> {
    let name = |device: &Map<String, Value>| {
        let [name, backend, driver] = ["name", "backend", "driver"].map(|key| text(device, key));
        format!("{name} ({backend}, {driver})")
    };
    let mut names: Vec<_> = records.iter().filter_map(Record::device).map(name).collect();
    names.dedup();
    match &names[..] {
        [first, second, ..] => Some([first.clone(), second.clone()]),
        _ => None,
    }
}

/// The page of records of one device, the most telling part first, and what was recorded first
/// before what came later.
pub fn sections(records: &[Record]) -> Vec<Section> {
    let mut records = records.to_vec();
    records.sort_by(|a, b| text(&a.head, "date").cmp(text(&b.head, "date")));
    let (records, measured) = (&records[..], Measurements::of(&records));
    let all = [
        goals(&measured),
        device(records, &measured),
        one_token(&measured),
        several_tokens(&measured),
        tuning(&measured),
        figures(&measured),
        of_records(records),
    ];
    all.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

fn goals(measured: &Measurements) -> Section {
    let mut text = vec![];
    if measured.is_on_cpu() {
        text.push(
            "**This adapter computes on the CPU**: the table is about GPUs, and shows here only that all of it runs."
                .to_owned(),
        );
    }
    text.push(
        "Activations are f32 unless a row says otherwise. Copies of a weight, used in turn, have 256 MB at least \
         where n = 1; a case with less is not in this table."
            .to_owned(),
    );
    let wrong = measured.wrong.iter().take(MOST_NAMED).map(|wrong| format!("WRONG: {wrong}"));
    text.extend(wrong);
    text.extend(more(measured.wrong.len()));
    Section { title: "Goals", text, columns: goals::COLUMNS, rows: goals::rows(measured) }
}

/// A line about those that are not named.
fn more(count: usize) -> Option<String> {
    count.checked_sub(MOST_NAMED).filter(|more| *more > 0).map(|more| format!("… and {more} more"))
}

const DEVICE: &[Column] = &[column("what", "device"), column("value", "value")];

fn device(records: &[Record], measured: &Measurements) -> Section {
    let builds = |key: &'static str| {
        let built = records.iter().filter_map(move |record| record.head.get("qmatmul")?.as_object());
        let all: BTreeSet<&str> = built.map(|built| text(built, key)).filter(|t| !t.is_empty()).collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    };
    let dates: BTreeSet<&str> = records.iter().map(|record| text(&record.head, "date")).collect();
    let features = measured.device.get("features").and_then(Value::as_array);
    let features: Vec<_> = features.into_iter().flatten().filter_map(Value::as_str).collect();
    let subgroup = measured.device.get("limits").and_then(|limits| limits.get("subgroup"));
    let rows = [
        ("name", text(&measured.device, "name").to_owned()),
        ("kind", text(&measured.device, "kind").to_owned()),
        ("backend", text(&measured.device, "backend").to_owned()),
        ("driver", text(&measured.device, "driver").to_owned()),
        ("compiler", text(&measured.device, "compiler").to_owned()),
        ("features", features.join(" ")),
        ("subgroups", subgroup.filter(|s| !s.is_null()).map(Value::to_string).unwrap_or_default()),
        ("qmatmul", builds("version")),
        ("commit", builds("commit")),
        ("wgpu", builds("wgpu")),
        ("begun", dates.first().copied().unwrap_or_default().to_owned()),
        ("last begun", dates.last().copied().unwrap_or_default().to_owned()),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let rows = rows.map(|(what, value)| vec![what.into(), value.into()]).collect();
    Section { title: "Device", text: vec![], columns: DEVICE, rows }
}

const ONE_TOKEN: &[Column] = &[
    column("format", "format"),
    column("activations", "activations"),
    column("shape", "m × k"),
    column("bits", "bits"),
    column("footprint", "MB of copies"),
    column("median_us", "µs"),
    column("weight_gb_per_s", "GB/s"),
    column("copy_fraction", "% copy"),
    column("least", "goal"),
    column("kernel", "kernel"),
];

fn one_token(measured: &Measurements) -> Section {
    let row = |case: &Case| {
        let least = Class::of(case).filter(|_| case.weight.activations == "f32").map(Class::least_of_copy);
        vec![
            case.weight.format.clone().into(),
            case.weight.activations.clone().into(),
            case.weight.shape().into(),
            Cell::Float(case.bits(), 2),
            Cell::Float(case.footprint() * 1e-6, 0),
            Cell::Float(case.micros, 1),
            Cell::Float(case.gb_per_s, 1),
            case.copy_fraction.map_or(Cell::Empty, Cell::Share),
            least.map_or(Cell::Empty, |least| Cell::Float(100.0 * least, 0)),
            case.kernel.clone().into(),
        ]
    };
    let rows = measured.cases.iter().filter(|case| case.n == 1).map(row).collect();
    Section { title: "One token", text: vec![], columns: ONE_TOKEN, rows }
}

const SEVERAL_TOKENS: &[Column] = &{
    let mut columns = [column("format", "format"); 8 + TOKENS.len()];
    columns[1] = column("activations", "activations");
    columns[2] = column("shape", "m × k");
    let mut i = 0;
    while i < TOKENS.len() {
        columns[3 + i] = TOKENS[i].1;
        i += 1;
    }
    columns[3 + i] = column("eight_to_one", "8 / 1");
    columns[4 + i] = column("tflop_per_s", "TFLOP/s");
    columns[5 + i] = column("peak_fraction", "% peak");
    columns[6 + i] = column("peak", "peak of");
    columns[7 + i] = column("ratio_to_f32", "f32 / this");
    columns
};

fn several_tokens(measured: &Measurements) -> Section {
    let mut weights: Vec<&Weight> = vec![];
    for case in measured.cases.iter().filter(|case| case.n > 1) {
        if !weights.contains(&&case.weight) {
            weights.push(&case.weight);
        }
    }
    let row = |weight: &Weight| {
        let at = |n: u64| measured.find(weight, n);
        let most = measured.cases.iter().filter(|c| c.weight == *weight && c.n >= COMPUTE_BOUND);
        let most = most.max_by_key(|case| case.n);
        let peak = most.and_then(|_| measured.peak_for(&weight.activations));
        let ratio = at(8).zip(at(1)).map(|(eight, one)| eight.micros / one.micros);
        let float = |value: Option<f64>, decimals| value.map_or(Cell::Empty, |v| Cell::Float(v, decimals));
        let times = TOKENS.iter().map(|(n, _)| float(at(*n).map(|case| case.micros), 1));
        let share = most.zip(peak).map(|(case, peak)| case.tera_flops / peak.tera_ops);
        [
            vec![weight.format.clone().into(), weight.activations.clone().into(), weight.shape().into()],
            times.collect(),
            vec![
                float(ratio, 2),
                float(most.map(|case| case.tera_flops), 3),
                share.map_or(Cell::Empty, Cell::Share),
                peak.map(|peak| peak.kind.clone()).into(),
                float(most.and_then(|case| measured.ratio_to_f32(case)), 2),
            ],
        ]
        .concat()
    };
    let text =
        "Medians in µs. TFLOP/s, its share of the peak and the ratio to f32 are those of the largest n.";
    let rows = weights.into_iter().map(row).collect();
    Section { title: "Several tokens", text: vec![text.into()], columns: SEVERAL_TOKENS, rows }
}

const TUNING: &[Column] = &[
    column("format", "format"),
    column("activations", "activations"),
    column("shape", "m × k"),
    column("n", "n"),
    column("candidates", "candidates"),
    column("first", "without tuning"),
    column("first_us", "µs"),
    column("chosen", "fastest"),
    column("chosen_us", "µs"),
    column("ratio", "ratio"),
];

fn tuning(measured: &Measurements) -> Section {
    let row = |trials: &Vec<measured::Trial>| {
        let first = trials.iter().min_by_key(|trial| trial.order)?;
        let chosen = trials.iter().find(|trial| trial.chosen);
        let micros = |trial: Option<&measured::Trial>| {
            trial.and_then(|trial| trial.micros).map_or(Cell::Empty, |micros| Cell::Float(micros, 1))
        };
        let ratio = first.micros.zip(chosen.and_then(|chosen| chosen.micros));
        Some(vec![
            first.weight.format.clone().into(),
            first.weight.activations.clone().into(),
            first.weight.shape().into(),
            first.n.into(),
            trials.len().into(),
            first.kernel.clone().into(),
            micros(Some(first)),
            chosen.map(|chosen| chosen.kernel.clone()).into(),
            micros(chosen),
            ratio.map_or(Cell::Empty, |(first, chosen)| Cell::Float(first / chosen, 2)),
        ])
    };
    let failed: Vec<_> = measured.trials.iter().flatten().filter(|trial| !trial.problem.is_empty()).collect();
    let said = |t: &&measured::Trial| {
        let (format, shape) = (&t.weight.format, t.weight.shape());
        format!("Not chosen: {} on {format}, {shape}, n = {}: {}", t.kernel, t.n, t.problem)
    };
    let named = failed.iter().take(MOST_NAMED).map(said);
    let text = named.chain(more(failed.len())).collect();
    Section { title: "Tuning", text, columns: TUNING, rows: measured.trials.iter().filter_map(row).collect() }
}

const FIGURES: &[Column] =
    &[column("figure", "figure"), column("mib", "MiB"), column("value", "value"), column("unit", "unit")];

fn figures(measured: &Measurements) -> Section {
    let row = |row: &Map<String, Value>| {
        vec![
            text(row, "figure").to_owned().into(),
            row.get("mib").and_then(Value::as_u64).into(),
            number(row, "value").map_or(Cell::Empty, |value| Cell::Float(value, 3)),
            text(row, "unit").to_owned().into(),
        ]
    };
    let rows = measured.figures.iter().map(row).collect();
    Section { title: "Peak", text: vec![], columns: FIGURES, rows }
}

const RECORDS: &[Column] =
    &[column("record", "record"), column("command", "command"), column("ending", "ended with")];

fn of_records(records: &[Record]) -> Section {
    let row = |record: &Record| {
        vec![record.name.clone().into(), record.command().to_owned().into(), record.ending().into()]
    };
    Section { title: "Records", text: vec![], columns: RECORDS, rows: records.iter().map(row).collect() }
}

#[cfg(test)]
mod tests;
