//! Rows for the page: what people see of them.

use qmatmul_report::{Cell, Column};
use serde_json::{Value, json};

/// `{ columns: [{ title, number }], rows: [[{ text, is }]] }`: the columns that say something, `is`
/// `right`, `wrong` or nothing.
pub fn table(columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let is_shown = |i: usize| rows.iter().any(|row| !row[i].is_blank());
    let shown: Vec<(usize, &str)> = columns
        .iter()
        .enumerate()
        .filter_map(|(i, column)| Some((i, column.title.filter(|_| !column.is_detail && is_shown(i))?)))
        .collect();
    let head = |(i, title): &(usize, &str)| {
        let number = rows.iter().all(|row| row[*i].is_number() || row[*i].is_blank());
        json!({ "title": title, "number": number })
    };
    let cell = |cell: &Cell| {
        let is = match cell {
            Cell::Right(true) => Value::from("right"),
            Cell::Right(false) => Value::from("wrong"),
            other if other.text() == "WRONG" => Value::from("wrong"),
            _ => Value::Null,
        };
        json!({ "text": cell.text(), "is": is })
    };
    let row = |row: &Vec<Cell>| Value::Array(shown.iter().map(|(i, _)| cell(&row[*i])).collect());
    let columns: Vec<_> = shown.iter().map(head).collect();
    let rows: Vec<_> = rows.iter().map(row).collect();
    json!({ "columns": columns, "rows": rows }).to_string()
}

/// A verdict: `{ ok, line }`.
pub fn verdict(verdict: &qmatmul_report::Verdict) -> String {
    json!({ "ok": verdict.json()["ok"], "line": verdict.line() }).to_string()
}
