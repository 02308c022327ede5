//! What the JSON parts of checkpoints need beside serde_json: offsets for errors, and texts held compactly.

use crate::file::names::{NameIndex, clipped};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::fmt;

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

/// Pairs of texts in the order of their file, in one allocation: a header may hold millions of tiny ones.
#[derive(Clone, Debug, Default)]
pub struct TextMap {
    text: String,
    /// Where each key and its value end in `text`.
    ends: Vec<[u32; 2]>,
}

impl TextMap {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.ends.len()).map(|i| self.pair(i))
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without pairs.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn pair(&self, i: usize) -> (&str, &str) {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before][1] as usize);
        let [key_end, end] = self.ends[i].map(|end| end as usize);
        (&self.text[start..key_end], &self.text[key_end..end])
    }

    /// Appends a pair; `None` if there are too many.
    fn push(&mut self, key: &str, value: &str) -> Option<()> {
        self.text.push_str(key);
        let key_end = self.text.len().try_into().ok()?;
        self.text.push_str(value);
        self.ends.push([key_end, self.text.len().try_into().ok()?]);
        (self.len() <= MAX_PAIRS).then_some(())
    }

    /// A key that occurs twice.
    fn duplicate(&self) -> Option<&str> {
        let index = NameIndex::new(self.len(), |i| self.pair(i).0.as_bytes());
        index.err().map(|i| self.pair(i).0)
    }
}

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextMapVisitor)
    }
}

struct TextMapVisitor;

impl<'de> Visitor<'de> for TextMapVisitor {
    type Value = TextMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from strings to strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
        let mut out = TextMap::default();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            out.push(&key, &value).ok_or_else(|| A::Error::custom(format!("more than {MAX_PAIRS} texts")))?;
        }
        match out.duplicate() {
            Some(key) => Err(A::Error::custom(format!("the key `{key}` is given twice"))),
            None => Ok(out),
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
