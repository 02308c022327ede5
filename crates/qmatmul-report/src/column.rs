//! The fields of rows.

use crate::Cell;
use serde_json::Value;

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

/// A row as programs read it.
pub fn object(columns: &[Column], row: &[Cell]) -> Value {
    let fields = columns.iter().zip(row).map(|(column, cell)| (column.key.to_owned(), cell.json()));
    Value::Object(fields.collect())
}
