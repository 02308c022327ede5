//! The results of a verb in the form that was asked for. `docs/json.md` and its schema say what the
//! machine forms hold.

use super::{Cell, Style, Verdict, command_line, plain, table, write_stdout};
use crate::devices;
use crate::options::Output;
use qmatmul::error::Result;
use qmatmul::gpu::AdapterSummary;
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The number of the schema, which changes with what keys mean.
const SCHEMA: u32 = 1;

/// The output that has begun and not ended: its form, and what is known before the first result.
static OPEN: Mutex<Option<(Style, Map<String, Value>)>> = Mutex::new(None);

fn open() -> MutexGuard<'static, Option<(Style, Map<String, Value>)>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends an output that has begun, without results that were not printed yet: the command ends
/// before its verb can.
pub fn interrupted() {
    let Some((style, head)) = open().take() else { return };
    let text = "before the end".into();
    let verdict = Verdict { is_interrupted: true, text, ..Verdict::default() };
    // There is nobody left to tell that it failed.
    let _ = match style {
        Style::Table | Style::Md => verdict.print(),
        Style::Csv => {
            verdict.complain();
            Ok(())
        }
        Style::Jsonl => write_line(&json!({ "verdict": verdict.json() })),
        Style::Json => write_whole(head, vec![], &verdict),
    };
}

/// What a field of every row is.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name for programs, with a unit.
    pub key: &'static str,
    /// Its name for people; none if they do not see it.
    pub title: Option<&'static str>,
    /// True if people see it with `-v` alone.
    pub is_detail: bool,
}

/// A field for programs and people.
pub const fn column(key: &'static str, title: &'static str) -> Column {
    Column { key, title: Some(title), is_detail: false }
}

/// A field for programs, and with `-v` for people.
pub const fn detail(key: &'static str, title: &'static str) -> Column {
    Column { key, title: Some(title), is_detail: true }
}

/// A field for programs.
pub const fn machine(key: &'static str) -> Column {
    Column { key, title: None, is_detail: false }
}

impl Column {
    fn shown(self, verbose: bool) -> Self {
        Self { title: self.title.filter(|_| verbose || !self.is_detail), ..self }
    }
}

/// How rows lie on a terminal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// A line a row.
    Columns,
    /// A block a row, a line a field.
    Cards,
}

/// Results on their way out: JSON lines and CSV as soon as they are known, the other forms in the
/// end.
pub struct Results {
    style: Style,
    quiet: bool,
    layout: Layout,
    columns: Vec<Column>,
    /// What is known before the first result.
    head: Map<String, Value>,
    /// Rows that are not printed yet, one list for each table.
    tables: Vec<Vec<Vec<Cell>>>,
}

impl Results {
    /// Begins the output: the first line of JSON lines and CSV is written at once.
    pub fn begin(output: &Output, device: Option<&AdapterSummary>, columns: &[Column]) -> Result<Self> {
        let results = Self {
            style: output.style,
            quiet: output.quiet,
            layout: Layout::Columns,
            columns: columns.iter().map(|column| column.shown(output.is_verbose())).collect(),
            head: head(device),
            tables: vec![vec![]],
        };
        *open() = Some((results.style, results.head.clone()));
        match results.style {
            Style::Jsonl => write_line(&Value::Object(results.head.clone()))?,
            Style::Csv => {
                write_csv(results.columns.iter().map(|c| c.key.to_owned()))?;
            }
            Style::Table | Style::Md | Style::Json => {}
        }
        Ok(results)
    }

    /// How rows lie on a terminal.
    pub fn layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// True if rows are printed as soon as they are known.
    pub fn streams(&self) -> bool {
        matches!(self.style, Style::Jsonl | Style::Csv)
    }

    /// Adds a row with one cell for each column.
    pub fn row(&mut self, row: Vec<Cell>) -> Result<()> {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell for each column");
        match self.style {
            Style::Jsonl => write_line(&self.object(&row)),
            Style::Csv => write_csv(row.iter().map(Cell::csv)),
            Style::Table | Style::Md | Style::Json => {
                self.tables.last_mut().expect("there is one from the beginning").push(row);
                Ok(())
            }
        }
    }

    /// Rows from here on are another table for people.
    pub fn section(&mut self) {
        if self.tables.last().is_some_and(|table| !table.is_empty()) {
            self.tables.push(vec![]);
        }
    }

    /// Prints what is not printed yet, and the verdict: the last line of standard output, in CSV on
    /// standard error.
    pub fn end(self, verdict: &Verdict) -> Result<()> {
        open().take();
        match self.style {
            Style::Table | Style::Md => {
                if !self.quiet {
                    write_stdout(self.tables_for_people().as_bytes())?;
                }
                verdict.print()
            }
            Style::Csv => {
                verdict.complain();
                Ok(())
            }
            Style::Jsonl => write_line(&json!({ "verdict": verdict.json() })),
            Style::Json => {
                let rows = self.tables.iter().flatten().map(|row| self.object(row)).collect();
                write_whole(self.head.clone(), rows, verdict)
            }
        }
    }

    fn tables_for_people(&self) -> String {
        let width = table::width();
        let render = |rows: &Vec<Vec<Cell>>| match (self.style, self.layout) {
            (Style::Md, _) => table::markdown(&self.columns, rows),
            (_, Layout::Columns) => table::columns(&self.columns, rows, width),
            (_, Layout::Cards) => table::cards(&self.columns, rows, width),
        };
        let tables = self.tables.iter().filter(|rows| !rows.is_empty());
        tables.map(|rows| render(rows) + "\n").collect()
    }

    fn object(&self, row: &[Cell]) -> Value {
        let fields = self.columns.iter().zip(row).map(|(column, cell)| (column.key.to_owned(), cell.json()));
        Value::Object(fields.collect())
    }
}

/// What the command was built from, as far as that is known.
pub fn built() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("QMATMUL_COMMIT"),
        "wgpu": option_env!("QMATMUL_WGPU"),
    })
}

/// The time, UTC: `2026-11-30T18:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// What every output begins with.
fn head(device: Option<&AdapterSummary>) -> Map<String, Value> {
    let head = json!({
        "schema": SCHEMA,
        "qmatmul": built(),
        "device": device.map(devices::object),
        "command": command_line(),
        "date": now(),
    });
    let Value::Object(head) = head else { unreachable!("an object was written") };
    head
}

fn write_whole(head: Map<String, Value>, results: Vec<Value>, verdict: &Verdict) -> Result<()> {
    let mut whole = head;
    whole.insert("results".into(), Value::Array(results));
    whole.insert("verdict".into(), verdict.json());
    write_stdout(without_hidden(&format!("{:#}\n", Value::Object(whole))).as_bytes())
}

fn write_line(value: &Value) -> Result<()> {
    write_stdout((without_hidden(&value.to_string()) + "\n").as_bytes())
}

/// JSON in which what moves a terminal's cursor or cannot be seen is escaped, as JSON has it.
fn without_hidden(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() || plain(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
        }
    }
    out
}

fn write_csv(fields: impl Iterator<Item = String>) -> Result<()> {
    let is_seen = std::io::stdout().is_terminal();
    let field = |field: String| if is_seen { quoted(&plain(&field)) } else { quoted(&field) };
    let fields: Vec<_> = fields.map(field).collect();
    write_stdout((fields.join(",") + "\n").as_bytes())
}

/// Readers of CSV end a row at any end of a line that is not quoted.
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("a b"), "a b");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        for field in ["a\rb", "a\nb", "a\r\nb"] {
            assert_eq!(quoted(field), format!("\"{field}\""));
        }
    }

    #[test]
    fn what_is_no_number_is_told_in_every_form() {
        for (cell, json, csv) in [
            (Cell::Tiny(f64::INFINITY), "\"inf\"", "inf"),
            (Cell::Float(f64::NAN, 1), "\"NaN\"", "NaN"),
            (Cell::Float(1.25, 1), "1.25", "1.25"),
            (Cell::Tiny(7.3e-14), "7.3e-14", "7.3e-14"),
            (Cell::Right(false), "false", "false"),
            (Cell::shape(&[3, 4]), "[3,4]", "3 x 4"),
            (Cell::Empty, "null", ""),
        ] {
            assert_eq!((cell.json().to_string(), cell.csv()), (json.into(), csv.into()));
        }
    }

    #[test]
    fn json_has_nothing_hidden() {
        let value = json!({"a\u{202e}": "µ\u{9b}\u{e0001}\n"});
        let text = without_hidden(&value.to_string());
        assert_eq!(text, r#"{"a\u202e":"µ\u009b\udb40\udc01\n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn every_output_begins_with_what_it_is_of() {
        let head = head(None);
        let keys: Vec<_> = head.keys().map(String::as_str).collect();
        assert_eq!(keys, ["schema", "qmatmul", "device", "command", "date"]);
        assert!(
            head["qmatmul"]["wgpu"].is_string() && head["date"].as_str().is_some_and(|d| d.ends_with('Z'))
        );
    }
}
