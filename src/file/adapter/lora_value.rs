//! The values of `adapter_config.json`, without what nothing is asked of: JSON in memory takes up
//! to 100 times its text.

use crate::file::container::json::{Append, Texts};
use crate::file::scheme::settings::Anything;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::fmt;

/// The most pairs of an object: a pattern for each module that an adapter can have.
const MAX_PAIRS: usize = 65_536;

/// A value, as far as anything is asked of it.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List { is_empty: bool },
    Object(Pairs),
}

/// The numbers of an object with their names, and the first value that is none.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub names: Texts,
    pub numbers: Vec<Number>,
    pub other: Option<(String, String)>,
}

impl Value {
    /// True for what says that a feature is not used.
    pub fn is_off(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(on) => !on,
            Self::Text(text) => text == "none",
            Self::List { is_empty } => *is_empty,
            Self::Object(pairs) => pairs.names.len() == 0,
            Self::Number(_) => false,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(on) => on.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => serde_json::Value::from(&**text).fmt(f),
            Self::List { is_empty } => f.write_str(if *is_empty { "[]" } else { "[…]" }),
            Self::Object(pairs) => f.write_str(if pairs.names.len() == 0 { "{}" } else { "{…}" }),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut is_empty = true;
        while list.next_element::<Anything>()?.is_some() {
            is_empty = false;
        }
        Ok(Value::List { is_empty })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Pairs { mut names, mut numbers, mut other } = Pairs::default();
        while map.next_key_seed(Append(&mut names))?.is_some() {
            match map.next_value()? {
                Value::Number(number) => numbers.push(number),
                value if other.is_none() => {
                    other = Some((names.get(names.len() - 1).into(), value.to_string()));
                }
                _ => {}
            }
            if names.len() > MAX_PAIRS {
                return Err(A::Error::custom(format_args!("more than {MAX_PAIRS} keys")));
            }
        }
        Ok(Value::Object(Pairs { names, numbers, other }))
    }
}
