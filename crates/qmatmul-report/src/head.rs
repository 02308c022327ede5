//! What a whole run is as JSON: a head, rows, a verdict.

use crate::{Verdict, device, plain};
use qmatmul::gpu::AdapterSummary;
use serde_json::{Map, Value, json};

/// The number of the schema, which changes with what keys mean.
pub const SCHEMA: u32 = 1;

/// What this was built from, as far as that is known.
pub fn built() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("QMATMUL_COMMIT"),
        "wgpu": option_env!("QMATMUL_WGPU"),
    })
}

/// What every output begins with. `date` is UTC: `2026-11-30T18:00:00Z`.
pub fn head(device: Option<&AdapterSummary>, command: String, date: String) -> Map<String, Value> {
    let head = json!({
        "schema": SCHEMA,
        "qmatmul": built(),
        "device": device.map(device::object),
        "command": command,
        "date": date,
    });
    let Value::Object(head) = head else { unreachable!("an object was written") };
    head
}

/// The text of a whole run.
pub fn whole(head: Map<String, Value>, results: Vec<Value>, verdict: &Verdict) -> String {
    let mut whole = head;
    whole.insert("results".into(), Value::Array(results));
    whole.insert("verdict".into(), verdict.json());
    without_hidden(&format!("{:#}\n", Value::Object(whole)))
}

/// JSON in which what moves a terminal's cursor or cannot be seen is escaped, as JSON has it.
pub fn without_hidden(json: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cell;

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
}
