//! What the JSON parts of checkpoints need beside serde_json: offsets for errors, and texts held
//! compactly.

use crate::file::names::{NameIndex, clipped};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use std::fmt;
use std::marker::PhantomData;

/// Offset in `text` of an error, and what it says.
pub(crate) fn fault(text: &str, error: &serde_json::Error) -> (u64, String) {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let at = match error.is_eof() {
        // A text that breaks off does so at its end.
        true => text.len(),
        false => line_start + error.column().saturating_sub(1),
    };
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
    (at as u64, clipped(message, 300))
}

/// Offset in `text` of the last place where `name` is the key of a value that begins with `first`.
pub(crate) fn locate(text: &str, name: &str, first: char) -> Option<u64> {
    let quoted = serde_json::Value::from(name).to_string();
    let is_key = |at: &usize| {
        let value = text[at + quoted.len()..].trim_start().strip_prefix(':');
        value.is_some_and(|value| value.trim_start().starts_with(first))
    };
    text.rmatch_indices(&quoted).map(|(at, _)| at).find(is_key).map(|at| at as u64)
}

/// The most pairs of one map, which bounds the time to read it; real files have one or two.
const MAX_PAIRS: usize = 1 << 18;

/// Texts one behind another in one allocation: a header may hold hundreds of thousands of tiny
/// ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    text: String,
    /// Where each ends in `text`.
    ends: Vec<u32>,
}

impl Texts {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text at this position, which must be below the number of them.
    pub fn get(&self, i: usize) -> &str {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[start..self.ends[i] as usize]
    }

    /// Appends a text; `None` if all together are longer than 4 GiB.
    pub fn push(&mut self, text: &str) -> Option<()> {
        let end = (self.text.len() + text.len()).try_into().ok()?;
        self.text.push_str(text);
        self.ends.push(end);
        Some(())
    }

    /// Their positions by text, or the first that occurred before.
    pub fn index(&self) -> Result<NameIndex, usize> {
        NameIndex::new(self.len(), |i| self.get(i).as_bytes())
    }
}

/// That a text is where none belongs. serde_json says so with the whole text, in which each byte
/// may become six, unless it is asked for any value and the visitor is left to refuse it.
pub(crate) fn no_text<E: serde::de::Error>(expected: &dyn Expected) -> E {
    E::invalid_type(Unexpected::Other("a text"), expected)
}

/// An object or a list, which is what a derived reader reads: it alone would repeat a text in its
/// error.
pub(crate) struct Compound<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Compound<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CompoundVisitor(PhantomData))
    }
}

struct CompoundVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for CompoundVisitor<T> {
    type Value = Compound<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Compound<T>, E> {
        Err(no_text(&self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Compound<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Compound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Compound<T>, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(seq)).map(Compound)
    }
}

/// A number of things.
pub(crate) struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("u64")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(Count(count))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Count, E> {
        Err(no_text(&self))
    }
}

/// Appends a JSON string to texts, without an allocation of its own.
pub(crate) struct Append<'a>(pub &'a mut Texts);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text).ok_or_else(|| E::custom("more than 4 GiB of texts"))
    }
}

/// Pairs of texts in the order of their file.
#[derive(Clone, Debug, Default)]
pub struct TextMap {
    keys: Texts,
    values: Texts,
}

impl TextMap {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|i| (self.keys.get(i), self.values.get(i)))
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextMapVisitor)
    }
}

struct TextMapVisitor;

impl<'de> Visitor<'de> for TextMapVisitor {
    type Value = TextMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from strings to strings")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<TextMap, E> {
        Err(no_text(&self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
        let mut out = TextMap::default();
        while map.next_key_seed(Append(&mut out.keys))?.is_some() {
            map.next_value_seed(Append(&mut out.values))?;
            if out.len() > MAX_PAIRS {
                return Err(A::Error::custom(format!("more than {MAX_PAIRS} texts")));
            }
        }
        match out.keys.index() {
            Err(i) => Err(A::Error::custom(format!("the key `{}` is given twice", out.keys.get(i)))),
            Ok(_) => Ok(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_order_and_refuse_duplicates() {
        let map: TextMap = serde_json::from_str(r#"{"b": "1", "a": "", "": "é"}"#).unwrap();
        assert_eq!(map.iter().collect::<Vec<_>>(), [("b", "1"), ("a", ""), ("", "é")]);
        assert_eq!((map.get("a"), map.get("c"), map.len()), (Some(""), None, 3));
        let error = serde_json::from_str::<TextMap>(r#"{"b": "1", "b": "2"}"#).unwrap_err();
        assert!(error.to_string().contains("`b` is given twice"), "{error}");
    }

    #[test]
    fn errors_get_offsets() {
        let text = "{\n\"a\": 1,\n\"b\": x}";
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        assert_eq!(fault(text, &error), (15, "expected value".into()));
        let error = serde_json::from_str::<serde_json::Value>("{\n").unwrap_err();
        assert_eq!(fault("{\n", &error).0, 2);
        assert_eq!(locate(r#"{"x": "a", "a" : "b", "c": {"a": 1}}"#, "a", '"'), Some(11));
    }
}
