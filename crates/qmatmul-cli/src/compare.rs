//! An earlier run of `bench`, read back: any output of `-f jsonl`, `json` or `csv`, also of the
//! versions before these had a schema, whose records `benches/record` holds.

use super::records::{Place, Row, Text};
use qmatmul::error::Result;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// What makes a case the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub format: String,
    pub activations: String,
    pub m: u64,
    pub k: u64,
    pub n: u64,
}

/// Times of an earlier run, in microseconds.
pub struct Earlier {
    micros: HashMap<Key, f64>,
    /// What the file says of its adapter and commit; empty if it says nothing.
    pub origin: String,
}

impl Earlier {
    pub fn read(path: &Path) -> Result<Self> {
        let text = Text::read(path)?;
        let mut earlier = Self { micros: HashMap::new(), origin: String::new() };
        for row in text.rows()? {
            earlier.take(row).map_err(|(place, problem)| text.malformed(place, problem))?;
        }
        if earlier.micros.is_empty() {
            return Err(text.malformed(Place::Line(1), "no row of a bench follows".into()));
        }
        Ok(earlier)
    }

    /// Of several kernels on one case the fastest counts.
    fn take(&mut self, Row { place, fields }: Row) -> std::result::Result<(), (Place, String)> {
        if let Some(adapter) = fields.get("adapter") {
            self.origin = origin(adapter, fields.get("commit"));
            return Ok(());
        }
        if let Some(device) = fields.get("device").filter(|_| fields.contains_key("schema")) {
            self.origin = origin(device, fields.get("qmatmul").and_then(|q| q.get("commit")));
            return Ok(());
        }
        // The end of JSON lines, and the sum over all matrices of a model.
        if fields.contains_key("verdict") || fields.get("op").is_some_and(|op| op == "all_matmuls") {
            return Ok(());
        }
        let either = |name, old| if fields.contains_key(name) { name } else { old };
        let (format, median) = (either("format", "type"), either("median_us", "µs"));
        let problem = |name: &str, what: &str| (place, format!("`{name}` is not {what}"));
        let whole = |name: &str| {
            fields.get(name).and_then(Value::as_u64).ok_or_else(|| problem(name, "a whole number"))
        };
        let format = fields.get(format).and_then(Value::as_str).ok_or_else(|| problem(format, "a text"))?;
        // Older runs knew no others.
        let activations = fields.get("activations").and_then(Value::as_str).unwrap_or("f32");
        let key = Key {
            format: format.to_owned(),
            activations: activations.to_owned(),
            m: whole("m")?,
            k: whole("k")?,
            n: whole("n")?,
        };
        let micros = fields.get(median).and_then(Value::as_f64).filter(|t| t.is_finite() && *t > 0.0);
        let micros = micros.ok_or_else(|| problem(median, "a positive number"))?;
        let known = self.micros.entry(key).or_insert(micros);
        *known = known.min(micros);
        Ok(())
    }

    /// The earlier time of a case in microseconds.
    pub fn was_us(&self, key: &Key) -> Option<f64> {
        self.micros.get(key).copied()
    }
}

fn origin(adapter: &Value, commit: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("unknown").to_owned();
    format!("{} ({}), commit {}", text(adapter.get("name")), text(adapter.get("driver")), text(commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Earlier> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("room");
        Earlier::read(file.path())
    }

    fn was(earlier: &Earlier, format: &str, n: u64) -> Option<f64> {
        earlier.was_us(&Key { format: format.into(), activations: "f32".into(), m: 64, k: 256, n })
    }

    #[test]
    fn rows_find_their_partners_in_every_style() {
        let row = r#"{"type":"Q4_0","m":64,"k":256,"n":1,"µs":60.0,"kernel":"a"}"#;
        let faster = row.replace("60.0", "50");
        let head = r#"{"adapter":{"name":"GPU","driver":"1.2"},"commit":"abc","command":"bench"}"#;
        let new = r#"{"format":"Q4_0","m":64,"k":256,"n":1,"median_us":50.0}"#;
        let all = r#"{"format":null,"op":"all_matmuls","n":1,"median_us":50.0}"#;
        let schema = r#""schema":1,"qmatmul":{"commit":"abc"},"device":{"name":"GPU","driver":"1.2"}"#;
        for text in [
            format!("{head}\n{row}\n\n{faster}\n"),
            format!("[{row},\n{faster}]"),
            format!("{{{schema},\n\"results\":[{new},{all}],\"verdict\":{{}}}}"),
            format!("{{{schema}}}\n{new}\n{all}\n{{\"verdict\":{{}}}}\n"),
            "format,op,m,k,n,median_us\nQ4_0,gemv,64,256,1,50\n".into(),
            "type,kernel,m,k,n,µs\nQ4_0,\"a, \"\"b\"\"\",64,256,1,50.0\n".into(),
        ] {
            let earlier = read(&text).expect(&text);
            assert_eq!(was(&earlier, "Q4_0", 1), Some(50.0), "{text}");
            assert_eq!([was(&earlier, "Q4_0", 2), was(&earlier, "Q4_1", 1)], [None, None]);
            let is_named = ["", "GPU (1.2), commit abc"].contains(&&*earlier.origin);
            assert!(is_named && (earlier.origin.is_empty() != text.contains("abc")), "{}", earlier.origin);
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
            (format!("[{good}, {{}}]"), "row 2 of the results at byte 0: `type`"),
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
