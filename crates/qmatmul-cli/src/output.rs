//! Tables on standard output: Markdown for people, CSV and JSON for programs.

use qmatmul::error::{self, Error, Result};
use std::io::Write;

/// How tables are printed.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Style {
    /// Markdown.
    Md,
    /// Comma-separated values.
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// One field of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    Int(u64),
    /// A number and how many decimals people want to see.
    Float(f64, usize),
    /// A number in scientific notation.
    Tiny(f64),
    /// Nothing is known.
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Int(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Int(number as u64)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Float(number, decimals) => format!("{number:.decimals$}"),
            Self::Tiny(number) => format!("{number:.1e}"),
            Self::Empty => String::new(),
        }
    }

    fn markdown(&self) -> String {
        plain(&self.text()).replace('\n', "\\n").replace('|', "\\|")
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Int(number) => (*number).into(),
            // JSON has neither NaN nor infinity.
            Self::Float(number, _) | Self::Tiny(number) if !number.is_finite() => number.to_string().into(),
            Self::Float(number, _) | Self::Tiny(number) => (*number).into(),
            Self::Empty => serde_json::Value::Null,
        }
    }

    fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Empty)
    }
}

/// `text`, which may hold names from a file, without what moves a terminal's cursor, changes its
/// colours or cannot be seen. Lines stay lines: a name that must not begin one is escaped before.
pub fn plain(text: &str) -> String {
    let lines = text.split('\n').map(|line| error::plain(line).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

/// Characters that a column is padded to at most.
const WIDEST: usize = 200;

/// A table that is printed when it is complete.
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: vec![] }
    }

    /// Adds a row with one cell per header.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.headers.len(), "a row has one cell per header");
        self.rows.push(row);
    }

    pub fn print(&self, style: Style) -> Result<()> {
        write_stdout(self.render(style).as_bytes())
    }

    pub fn render(&self, style: Style) -> String {
        match style {
            Style::Md => self.markdown(),
            Style::Csv => self.csv(),
            Style::Json => format!("{:#}\n", serde_json::Value::from(self.objects())),
            Style::Jsonl => self.objects().iter().map(|o| format!("{o}\n")).collect(),
        }
    }

    fn objects(&self) -> Vec<serde_json::Value> {
        let object = |row: &Vec<Cell>| {
            let fields = self.headers.iter().zip(row).map(|(h, c)| ((*h).to_owned(), c.json()));
            serde_json::Value::Object(fields.collect())
        };
        self.rows.iter().map(object).collect()
    }

    fn csv(&self) -> String {
        let line =
            |fields: Vec<String>| fields.iter().map(|f| quoted(f)).collect::<Vec<_>>().join(",") + "\n";
        let headers = line(self.headers.iter().map(|h| (*h).to_owned()).collect());
        self.rows.iter().fold(headers, |text, row| text + &line(row.iter().map(Cell::text).collect()))
    }

    fn markdown(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|r| r.iter().map(Cell::markdown).collect()).collect();
        let columns = 0..self.headers.len();
        // Once for all rows, of which there may be a hundred thousand; a name as long as a page
        // widens no other row.
        let width = |i: usize| {
            let head = self.headers[i].chars().count();
            rows.iter().map(|r| r[i].chars().count().min(WIDEST)).max().unwrap_or(0).max(head)
        };
        let widths: Vec<usize> = columns.clone().map(width).collect();
        let right: Vec<bool> = columns.map(|i| self.rows.iter().any(|r| r[i].is_number())).collect();
        let line = |fields: Vec<&str>| {
            let pad = |(i, f): (usize, &&str)| match right[i] {
                true => format!(" {f:>w$} |", w = widths[i]),
                false => format!(" {f:<w$} |", w = widths[i]),
            };
            format!("|{}\n", fields.iter().enumerate().map(pad).collect::<String>())
        };
        let rule: String = (0..self.headers.len())
            .map(|i| format!("{}{}|", "-".repeat(widths[i] + 1), if right[i] { ":" } else { "-" }))
            .collect();
        let head = line(self.headers.clone()) + "|" + &rule + "\n";
        rows.iter().fold(head, |text, row| text + &line(row.iter().map(String::as_str).collect()))
    }
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.into(),
    }
}

/// Writes to standard output without the panic of `print!` when the reader is gone.
pub fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::output("writing", "standard output"))
}

/// Writes a line to standard error; where nobody reads it, it is lost.
pub fn write_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `1.5 GiB` for people.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), UNITS[power as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "bytes"]);
        table.push(vec!["a,\"b\"|".into(), 12usize.into()]);
        table
    }

    #[test]
    fn an_empty_cell_is_empty_in_every_style() {
        let mut table = Table::new(&["name", "µs"]);
        table.push(vec!["a".into(), Cell::Empty]);
        table.push(vec!["b".into(), Cell::Float(1.25, 1)]);
        assert_eq!(table.render(Style::Csv), "name,µs\na,\nb,1.2\n");
        assert_eq!(
            table.render(Style::Jsonl),
            "{\"name\":\"a\",\"µs\":null}\n{\"name\":\"b\",\"µs\":1.25}\n"
        );
        assert_eq!(
            table.render(Style::Md),
            "| name |  µs |\n|------|----:|\n| a    |     |\n| b    | 1.2 |\n"
        );
    }

    #[test]
    fn names_of_files_do_not_reach_the_terminal_as_they_are() {
        let mut table = Table::new(&["name"]);
        table.push(vec!["a\u{1b}[31m\nb".into()]);
        assert!(table.render(Style::Md).contains("| a\\u{1b}[31m\\nb |"), "{}", table.render(Style::Md));
        assert_eq!(plain("µ\u{7} · \\ \n"), "µ\\u{7} · \\ \n");
        // Text that runs backwards, other ends of lines, and what has no width.
        assert_eq!(plain("\u{202e}gnp.exe\u{2028}\u{200b}"), "\\u{202e}gnp.exe\\u{2028}\\u{200b}");
    }

    #[test]
    fn what_is_no_number_is_told_in_json_too() {
        let mut table = Table::new(&["nmse"]);
        table.push(vec![Cell::Tiny(f64::INFINITY)]);
        table.push(vec![Cell::Float(f64::NAN, 1)]);
        assert_eq!(table.render(Style::Jsonl), "{\"nmse\":\"inf\"}\n{\"nmse\":\"NaN\"}\n");
    }

    #[test]
    fn styles() {
        assert_eq!(table().render(Style::Csv), "name,bytes\n\"a,\"\"b\"\"|\",12\n");
        assert_eq!(table().render(Style::Jsonl), "{\"name\":\"a,\\\"b\\\"|\",\"bytes\":12}\n");
        assert_eq!(
            table().render(Style::Md),
            "| name    | bytes |\n|---------|------:|\n| a,\"b\"\\| |    12 |\n"
        );
    }

    /// Readers of CSV end a row at any end of a line that is not quoted.
    #[test]
    fn ends_of_lines_in_fields_are_quoted() {
        for field in ["a\rb", "a\nb", "a\r\nb"] {
            let mut table = Table::new(&["name"]);
            table.push(vec![field.into()]);
            assert_eq!(table.render(Style::Csv), format!("name\n\"{field}\"\n"));
        }
    }

    #[test]
    fn bytes_for_people() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "16777216.0 TiB");
    }
}
