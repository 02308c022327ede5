//! Outputs of `-f jsonl`, `json` and `csv`, read back as rows: the head first, then the results,
//! then the verdict, as far as the form and the version have them.

use qmatmul::error::{Error, Result};
use qmatmul::file::read_text;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;

/// The longest file; a record of a whole evening has a tenth of a megabyte.
const LONGEST: u64 = 64 << 20;

/// The text of a recorded run.
pub struct Text {
    /// The file, for errors.
    file: String,
    text: String,
}

impl Text {
    pub fn read(path: &Path) -> Result<Self> {
        // Which may be a pipe: `--compare <(git show HEAD:record.jsonl)`.
        let file = File::open(path).map_err(Error::io("opening", path))?;
        Ok(Self { text: read_text(path, file, LONGEST)?, file: path.display().to_string() })
    }

    /// Without a last line that has no end: what a run was writing when it was killed.
    pub fn whole_lines(mut self) -> Self {
        if serde_json::from_str::<serde::de::IgnoredAny>(&self.text).is_err() {
            self.text.truncate(self.text.rfind('\n').map_or(0, |end| end + 1));
        }
        self
    }

    /// All rows, in the order of the file.
    pub fn rows(&self) -> Result<Vec<Row>> {
        match self.text.trim_start().chars().next() {
            Some('[') => self.array(),
            Some('{') => object(&self.text).map_or_else(|| self.lines(), Ok),
            _ => self.csv(),
        }
    }

    /// What contradicts the form of a record.
    pub fn malformed(&self, place: Place, problem: String) -> Error {
        let (what, offset) = match place {
            Place::Line(line) => {
                let before: usize = self.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
                (format!("line {line}"), before)
            }
            Place::Element(number) => (format!("row {number} of the results"), 0),
        };
        Error::Malformed { file: self.file.clone(), what, offset: offset as u64, problem }
    }

    fn array(&self) -> Result<Vec<Row>> {
        let rows: Vec<Map<String, Value>> = serde_json::from_str(&self.text)
            .map_err(|e| self.malformed(Place::Line(e.line().max(1)), e.to_string()))?;
        let place = |(i, fields)| Row { place: Place::Element(i + 1), fields };
        Ok(rows.into_iter().enumerate().map(place).collect())
    }

    /// The lines that are not blank, and their numbers.
    fn filled_lines(&self) -> impl Iterator<Item = (Place, &str)> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(i, line)| (Place::Line(i + 1), line))
    }

    fn lines(&self) -> Result<Vec<Row>> {
        let row = |(place, line)| match serde_json::from_str(line) {
            Ok(fields) => Ok(Row { place, fields }),
            Err(e) => Err(self.malformed(place, e.to_string())),
        };
        self.filled_lines().map(row).collect()
    }

    fn csv(&self) -> Result<Vec<Row>> {
        let mut lines = self.filled_lines();
        let headers = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
        let row = |(place, line)| {
            let fields = fields(line);
            if fields.len() != headers.len() {
                let problem = format!("{} fields under {} headers", fields.len(), headers.len());
                return Err(self.malformed(place, problem));
            }
            // A number reads as a number, anything else as text.
            let value = |field: String| {
                serde_json::from_str::<serde_json::Number>(&field).map_or(Value::String(field), Value::Number)
            };
            Ok(Row { place, fields: headers.iter().cloned().zip(fields.into_iter().map(value)).collect() })
        };
        lines.map(row).collect()
    }
}

/// Where a row stands: an array has no lines of its own.
#[derive(Clone, Copy)]
pub enum Place {
    Line(usize),
    Element(usize),
}

/// A head, a result or a verdict.
pub struct Row {
    pub place: Place,
    pub fields: Map<String, Value>,
}

/// The one object of `-f json`: its head, its results, its verdict; none if the text is something
/// else.
fn object(text: &str) -> Option<Vec<Row>> {
    let mut head: Map<String, Value> = serde_json::from_str(text).ok()?;
    let Some(Value::Array(results)) = head.remove("results") else { return None };
    let verdict = head.remove("verdict").map(|verdict| Map::from_iter([("verdict".to_owned(), verdict)]));
    let fields = |value| match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    };
    let results = results.into_iter().map(fields).collect::<Option<Vec<_>>>()?;
    let rows = std::iter::once(head).chain(results).chain(verdict).enumerate();
    Some(rows.map(|(i, fields)| Row { place: Place::Element(i), fields }).collect())
}

/// The fields of a line of CSV, with quotes where there are commas or quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("one at least");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    fields
}
