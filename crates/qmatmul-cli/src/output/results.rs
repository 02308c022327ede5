//! The results of a verb in the form that was asked for. `docs/json.md` and its schema say what the
//! machine forms hold.

use super::verdict::{complain, print};
use super::{Style, command_line, table, write_stdout};
use crate::options::Output;
use qmatmul::error::Result;
use qmatmul::gpu::AdapterSummary;
use qmatmul_report::{Cell, Column, Verdict, object, plain, whole, without_hidden};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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
        Style::Table | Style::Md => print(&verdict),
        Style::Csv => {
            complain(&verdict);
            Ok(())
        }
        Style::Jsonl => write_line(&json!({ "verdict": verdict.json() })),
        Style::Json => write_whole(head, vec![], &verdict),
    };
}

/// A column as people see it, with `-v` or without.
fn shown(column: Column, verbose: bool) -> Column {
    Column { title: column.title.filter(|_| verbose || !column.is_detail), ..column }
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
            columns: columns.iter().map(|column| shown(*column, output.is_verbose())).collect(),
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
                print(verdict)
            }
            Style::Csv => {
                complain(verdict);
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
        object(&self.columns, row)
    }
}

/// The time, UTC: `2026-11-30T18:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// What every output begins with.
fn head(device: Option<&AdapterSummary>) -> Map<String, Value> {
    qmatmul_report::head(device, command_line(), now())
}

fn write_whole(head: Map<String, Value>, results: Vec<Value>, verdict: &Verdict) -> Result<()> {
    write_stdout(whole(head, results, verdict).as_bytes())
}

fn write_line(value: &Value) -> Result<()> {
    write_stdout((without_hidden(&value.to_string()) + "\n").as_bytes())
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
    fn every_output_begins_with_what_it_is_of() {
        let head = head(None);
        let keys: Vec<_> = head.keys().map(String::as_str).collect();
        assert_eq!(keys, ["schema", "qmatmul", "device", "command", "date"]);
        assert!(
            head["qmatmul"]["wgpu"].is_string() && head["date"].as_str().is_some_and(|d| d.ends_with('Z'))
        );
    }
}
