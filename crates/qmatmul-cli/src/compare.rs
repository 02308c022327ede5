//! An earlier run of `bench`, read back: as `benches/record.sh` writes it, or any output of
//! `-o jsonl`, `json` or `csv`.

use super::measured::Measured;
use super::output::Cell;
use qmatmul::error::{Error, Result};
use qmatmul::file::read_text;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

type Key = (String, String, u64, u64, u64);

/// Times of an earlier run, in microseconds, by type, activations, m, k and n.
pub struct Earlier {
    micros: HashMap<Key, f64>,
    /// What the file says of its adapter and commit; empty if it says nothing.
    pub origin: String,
}

/// The longest file; a record of a whole evening has a tenth of a megabyte.
const LONGEST: u64 = 64 << 20;

pub const HEADERS: &[&str] = &["was µs", "ratio"];

impl Earlier {
    pub fn read(path: &Path) -> Result<Self> {
        // Which may be a pipe: `--compare <(git show HEAD:record.jsonl)`.
        let file = File::open(path).map_err(Error::io("opening", path))?;
        let text = read_text(path, file, LONGEST)?;
        let file = path.display().to_string();
        let mut earlier = Self { micros: HashMap::new(), origin: String::new() };
        for row in rows(&file, &text)? {
            earlier.take(row).map_err(|(place, problem)| malformed(&file, &text, place, problem))?;
        }
        if earlier.micros.is_empty() {
            return Err(malformed(&file, &text, Place::Line(1), "no row of a bench follows".into()));
        }
        Ok(earlier)
    }

    /// Of several kernels on one case the fastest counts.
    fn take(&mut self, Row { place, fields }: Row) -> std::result::Result<(), (Place, String)> {
        if let Some(adapter) = fields.get("adapter") {
            self.origin = origin(adapter, fields.get("commit"));
            return Ok(());
        }
        let problem = |name: &str, what: &str| (place, format!("`{name}` is not {what}"));
        let whole = |name: &str| {
            fields.get(name).and_then(Value::as_u64).ok_or_else(|| problem(name, "a whole number"))
        };
        let format = fields.get("type").and_then(Value::as_str).ok_or_else(|| problem("type", "a text"))?;
        // Older runs knew no others.
        let activations = fields.get("activations").and_then(Value::as_str).unwrap_or("f32");
        let key = (format.to_owned(), activations.to_owned(), whole("m")?, whole("k")?, whole("n")?);
        let micros = fields.get("µs").and_then(Value::as_f64).filter(|t| t.is_finite() && *t > 0.0);
        let micros = micros.ok_or_else(|| problem("µs", "a positive number"))?;
        let known = self.micros.entry(key).or_insert(micros);
        *known = known.min(micros);
        Ok(())
    }

    /// Cells under [`HEADERS`]: the earlier time, and how many times as fast the case is now.
    pub fn cells(&self, now: &Measured) -> Vec<Cell> {
        let activations = now.activations.name().to_owned();
        let key = (now.format.to_owned(), activations, now.m as u64, now.k as u64, now.n as u64);
        match self.micros.get(&key) {
            Some(was) => vec![Cell::Float(*was, 1), Cell::Float(was / now.micros(), 2)],
            None => vec![Cell::Empty, Cell::Empty],
        }
    }
}

/// Where a row stands: an array has no lines of its own.
#[derive(Clone, Copy)]
enum Place {
    Line(usize),
    Element(usize),
}

struct Row {
    place: Place,
    fields: Map<String, Value>,
}

fn malformed(file: &str, text: &str, place: Place, problem: String) -> Error {
    let (what, offset) = match place {
        Place::Line(line) => {
            let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
            (format!("line {line}"), before)
        }
        Place::Element(number) => (format!("row {number} of the array on line 1"), 0),
    };
    Error::Malformed { file: file.into(), what, offset: offset as u64, problem }
}

fn rows(file: &str, text: &str) -> Result<Vec<Row>> {
    match text.trim_start().chars().next() {
        Some('[') => array(file, text),
        Some('{') => lines(file, text),
        _ => csv(file, text),
    }
}

fn array(file: &str, text: &str) -> Result<Vec<Row>> {
    let rows: Vec<Map<String, Value>> = serde_json::from_str(text)
        .map_err(|e| malformed(file, text, Place::Line(e.line().max(1)), e.to_string()))?;
    let place = |(i, fields)| Row { place: Place::Element(i + 1), fields };
    Ok(rows.into_iter().enumerate().map(place).collect())
}

/// The lines that are not blank, and their numbers.
fn filled_lines(text: &str) -> impl Iterator<Item = (Place, &str)> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| (Place::Line(i + 1), line))
}

fn lines(file: &str, text: &str) -> Result<Vec<Row>> {
    let row = |(place, line)| match serde_json::from_str(line) {
        Ok(fields) => Ok(Row { place, fields }),
        Err(e) => Err(malformed(file, text, place, e.to_string())),
    };
    filled_lines(text).map(row).collect()
}

fn csv(file: &str, text: &str) -> Result<Vec<Row>> {
    let mut lines = filled_lines(text);
    let headers = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
    let row = |(place, line)| {
        let fields = fields(line);
        if fields.len() != headers.len() {
            let problem = format!("{} fields under {} headers", fields.len(), headers.len());
            return Err(malformed(file, text, place, problem));
        }
        // A number reads as a number, anything else as text.
        let value = |field: String| {
            serde_json::from_str::<serde_json::Number>(&field).map_or(Value::String(field), Value::Number)
        };
        Ok(Row { place, fields: headers.iter().cloned().zip(fields.into_iter().map(value)).collect() })
    };
    lines.map(row).collect()
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

fn origin(adapter: &Value, commit: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("unknown").to_owned();
    format!("{} ({}), commit {}", text(adapter.get("name")), text(adapter.get("driver")), text(commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmatmul::check;
    use qmatmul::gpu::Timing;
    use qmatmul::kernel::Activations;

    fn read(text: &str) -> Result<Earlier> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("room");
        Earlier::read(file.path())
    }

    fn now(format: &'static str, n: usize) -> Measured {
        Measured {
            format,
            m: 64,
            k: 256,
            n,
            activations: Activations::F32,
            packed: 1,
            kernel: "gemv".into(),
            copies: 1,
            timing: Timing { seconds: vec![20e-6], timestamps: true },
            host_seconds: None,
            comparison: check::Comparison::nothing(),
        }
    }

    fn texts(earlier: &Earlier, now: &Measured) -> String {
        format!("{:?}", earlier.cells(now))
    }

    #[test]
    fn rows_find_their_partners_in_every_style() {
        let row = r#"{"type":"Q4_0","m":64,"k":256,"n":1,"µs":60.0,"kernel":"a"}"#;
        let faster = row.replace("60.0", "50");
        let head = r#"{"adapter":{"name":"GPU","driver":"1.2"},"commit":"abc","command":"bench"}"#;
        for text in [
            format!("{head}\n{row}\n\n{faster}\n"),
            format!("[{row},\n{faster}]"),
            "type,kernel,m,k,n,µs\nQ4_0,\"a, \"\"b\"\"\",64,256,1,50.0\n".into(),
        ] {
            let earlier = read(&text).expect(&text);
            assert_eq!(texts(&earlier, &now("Q4_0", 1)), "[Float(50.0, 1), Float(2.5, 2)]", "{text}");
            assert_eq!(texts(&earlier, &now("Q4_0", 2)), "[Empty, Empty]");
            assert_eq!(texts(&earlier, &now("Q4_1", 1)), "[Empty, Empty]");
        }
        assert_eq!(read(&format!("{head}\n{row}")).expect("a record").origin, "GPU (1.2), commit abc");
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let good = r#"{"type":"Q4_0","m":64,"k":256,"n":1,"µs":60.0}"#;
        for (text, place) in [
            (format!("{good}\n{}", good.replace("60.0", "0")), "line 2 at byte 48: `µs` is not a positive"),
            (format!("{good}\n\n{}", good.replace("64", "6.4")), "line 3 at byte 49: `m` is not a whole"),
            (format!("{good}\n{{\"type\":"), "line 2"),
            (format!("[{good}, {{}}]"), "row 2 of the array on line 1 at byte 0: `type`"),
            ("[\n{}\n".into(), "line 3"),
            ("type,m\nQ4_0\n".into(), "line 2 at byte 7: 1 fields under 2 headers"),
            ("type,m,k,n,µs\nQ4_0,1,1,1,nan\n".into(), "line 2"),
            (String::new(), "no row"),
            ("\u{0}\n".into(), "no row"),
        ] {
            let error = read(&text).err().expect(&text).to_string();
            assert!(error.contains(place) && error.starts_with(['/', 'C']), "{text}: {error}");
        }
    }
}
