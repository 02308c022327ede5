//! One field of a row.

use crate::{human_bytes, plain};
use serde_json::Value;

/// Characters that people see of a name.
const LONGEST: usize = 400;

/// What is known of one thing: a value for programs, and a text for people.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    Int(u64),
    /// Bytes, which people read as `1.5 GiB`.
    Bytes(u64),
    /// A number and how many decimals people want to see.
    Float(f64, usize),
    /// A share, which people read in percent.
    Share(f64),
    /// A number in scientific notation.
    Tiny(f64),
    /// True is `yes`.
    Bool(bool),
    /// True is `ok`, false `WRONG`.
    Right(bool),
    /// A list or an object, and how people read it.
    Json(Value, String),
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

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl Cell {
    /// Names, with spaces between them.
    pub fn names(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let text = names.join(" ");
        Self::Json(names.into(), text)
    }

    /// The dimensions of a tensor: `2048 x 256`.
    pub fn shape(dims: &[u64]) -> Self {
        let text = match dims {
            [] => "scalar".into(),
            _ => dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "),
        };
        Self::Json(dims.into(), text)
    }

    /// What is nearly always so, of which people are told only the rest.
    pub fn usual(value: impl Into<Value>, is_usual: bool, otherwise: &str) -> Self {
        Self::Json(value.into(), if is_usual { String::new() } else { otherwise.into() })
    }

    /// For people, in one line, without what moves a terminal's cursor.
    pub fn text(&self) -> String {
        let text = match self {
            Self::Text(text) | Self::Json(_, text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bytes(number) => human_bytes(*number),
            Self::Float(number, decimals) => format!("{number:.decimals$}"),
            Self::Share(share) => format!("{:.1}", 100.0 * share),
            Self::Tiny(number) => format!("{number:.1e}"),
            Self::Bool(is) => if *is { "yes" } else { "no" }.into(),
            Self::Right(is) => if *is { "ok" } else { "WRONG" }.into(),
            Self::Empty => String::new(),
        };
        let text = plain(&text).replace('\n', "\\n");
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// For a field of CSV: numbers with all their digits, lists with spaces between.
    pub fn csv(&self) -> String {
        match self {
            Self::Json(Value::Array(_), text) => text.clone(),
            other => match other.json() {
                Value::Null => String::new(),
                Value::String(text) => text,
                value => value.to_string(),
            },
        }
    }

    pub fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Int(number) | Self::Bytes(number) => (*number).into(),
            // JSON has neither NaN nor infinity.
            Self::Float(number, _) | Self::Share(number) | Self::Tiny(number) if !number.is_finite() => {
                number.to_string().into()
            }
            Self::Float(number, _) | Self::Share(number) | Self::Tiny(number) => (*number).into(),
            Self::Bool(is) | Self::Right(is) => (*is).into(),
            Self::Json(value, _) => value.clone(),
            Self::Empty => Value::Null,
        }
    }

    /// True if its digits stand below those of others.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Bytes(_) | Self::Float(..) | Self::Share(_) | Self::Tiny(_))
    }

    /// True if people see nothing of it.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) | Self::Json(_, text) => text.is_empty(),
            Self::Empty => true,
            _ => false,
        }
    }
}
