//! Reads the header of a safetensors file: a u64 length, that many bytes of JSON, then the data.
//!
//! The `safetensors` crate defines the format and its types; this reader accepts what it accepts,
//! less the lies that it lets pass. It walks the header itself for four reasons: the crate needs
//! the whole file as one slice, it keeps the last of two tensors with one name, its errors do not
//! say which tensor and where, and it buffers the header in many times the header's size.

pub use crate::file::container::json::TextMap;

use crate::error::{Error, Result};
use crate::file::container::json::{self, Compound, Count};
use crate::file::container::source::{Source, read_up_to};
use crate::file::container::stored::DType;
use crate::file::container::tensors::{MAX_TENSORS, TensorInfo, TensorTable};
use crate::file::names::shown;
use ::safetensors::Dtype;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// The longest header, the crate's own limit.
pub const MAX_HEADER: u64 = 100_000_000;
/// PyTorch's own limit for dimensions.
const MAX_DIMS: usize = 64;

/// The one key of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// What the header of a safetensors file says, checked.
#[derive(Debug)]
pub(crate) struct Header {
    pub metadata: TextMap,
    pub tensors: TensorTable,
}

/// Reads and checks the header, and nothing after it.
pub(crate) fn open(source: &Source) -> Result<Header> {
    let header = Text::read(source)?;
    let (metadata, mut tensors) = header.parse()?;
    tensors.sort_by_key(|t| (t.offset, t.bytes));
    header.check_tiling(&mut tensors)?;
    let tensors = TensorTable::new(tensors).map_err(|(i, tensors)| {
        let name = &tensors[i].name;
        header.malformed_tensor(name, "a tensor of this name was listed before".into())
    })?;
    Ok(Header { metadata, tensors })
}

/// Reads a file from a stream, and one byte at most beyond what its header claims, which tells that
/// there is more: a stream may have no end.
pub(crate) fn read_stream(label: &Path, from: &mut dyn Read) -> Result<Bytes> {
    let mut bytes = Vec::new();
    read_up_to(label, from, &mut bytes, 8)?;
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    read_up_to(label, from, &mut bytes, 8 + length.filter(|length| *length <= MAX_HEADER).unwrap_or(0))?;
    let end = Text::read(&Source::from_bytes(label, bytes.clone().into()))?.claimed_end()?;
    read_up_to(label, from, &mut bytes, end.saturating_add(1))?;
    Ok(bytes.into())
}

/// The JSON of a header.
struct Text<'a> {
    source: &'a Source,
    bytes: Bytes,
}

impl<'a> Text<'a> {
    fn read(source: &'a Source) -> Result<Self> {
        let malformed = |offset, problem| malformed(source, "header", offset, problem);
        if source.len() < 8 {
            return Err(malformed(0, format!("8 bytes of length should come first, got {}", source.len())));
        }
        let len = u64::from_le_bytes(source.copy(0..8)?[..].try_into().unwrap_or_default());
        if len > MAX_HEADER {
            return Err(malformed(0, format!("it claims {len} bytes, the limit is {MAX_HEADER}")));
        }
        if len > source.len() - 8 {
            return Err(malformed(
                0,
                format!(
                    "it claims {len} bytes, the file has {} more: it is truncated to {} bytes, or damaged",
                    source.len() - 8,
                    source.len()
                ),
            ));
        }
        let bytes = source.copy(8..8 + len)?;
        if bytes.first() != Some(&b'{') {
            return Err(malformed(8, "it does not start with `{`".into()));
        }
        std::str::from_utf8(&bytes)
            .map_err(|e| malformed(8 + e.valid_up_to() as u64, "it is not UTF-8".into()))?;
        Ok(Self { source, bytes })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// Offset of the data from the start of the file.
    fn data(&self) -> u64 {
        8 + self.bytes.len() as u64
    }

    /// Where the last tensor claims to end.
    fn claimed_end(&self) -> Result<u64> {
        let (_, tensors) = self.parse()?;
        let ends = tensors.iter().map(|t| t.offset.saturating_add(t.bytes));
        Ok(self.data().saturating_add(ends.max().unwrap_or(0)))
    }

    /// Metadata and tensors; their offsets are still relative to the data.
    fn parse(&self) -> Result<(TextMap, Vec<TensorInfo>)> {
        let current = RefCell::new(String::new());
        let mut json = serde_json::Deserializer::from_str(self.as_str());
        let parsed = HeaderSeed { current: &current, types: &RefCell::default() }.deserialize(&mut json);
        parsed
            .and_then(|parsed| json.end().map(|()| parsed))
            .map_err(|error| self.json_error(&error, &current.take()))
    }

    /// An error of the tensor that was being read: at its key if its contents are wrong, or where
    /// the JSON breaks off.
    fn json_error(&self, error: &serde_json::Error, name: &str) -> Error {
        let (mut offset, problem) = json::fault(self.as_str(), error);
        if error.is_data() && !name.is_empty() {
            offset = json::locate(self.as_str(), name, '{').unwrap_or(offset);
        }
        let what = match name {
            "" => "header".into(),
            METADATA => format!("key `{METADATA}`"),
            name => format!("tensor `{}`", shown(name)),
        };
        malformed(self.source, &what, 8 + offset, problem)
    }

    /// Turns relative offsets into absolute ones; the tensors, sorted by them, must cover the data
    /// exactly.
    fn check_tiling(&self, tensors: &mut [TensorInfo]) -> Result<()> {
        let (mut end, file_end) = (self.data(), self.source.len());
        let wanted =
            tensors.iter().map(|t| self.data().saturating_add(t.offset).saturating_add(t.bytes)).max();
        for tensor in tensors {
            let start = self.data() + tensor.offset;
            if start != end {
                let fault =
                    if start < end { "overlaps the data before it" } else { "leaves a gap before it" };
                let problem = format!("its data at byte {start} {fault}, which ends at byte {end}");
                return Err(self.malformed_tensor(&tensor.name, problem));
            }
            tensor.offset = start;
            end += tensor.bytes;
            if end > file_end {
                let wanted = wanted.unwrap_or(end);
                let problem = format!(
                    "its data ends at byte {end}, the file at byte {file_end}: it is truncated, its header describes {wanted} bytes"
                );
                return Err(self.malformed_tensor(&tensor.name, problem));
            }
        }
        if end == file_end {
            return Ok(());
        }
        let problem = format!("{} bytes follow that belong to no tensor", file_end - end);
        Err(malformed(self.source, "data", end, problem))
    }

    fn malformed_tensor(&self, name: &str, problem: String) -> Error {
        let offset = 8 + json::locate(self.as_str(), name, '{').unwrap_or(0);
        malformed(self.source, &format!("tensor `{}`", shown(name)), offset, problem)
    }
}

fn malformed(source: &Source, what: &str, offset: u64, problem: String) -> Error {
    Error::Malformed { file: source.label(), what: what.into(), offset, problem }
}

/// Reads the header's map entry by entry, so that memory stays near what is kept.
#[derive(Clone, Copy)]
struct HeaderSeed<'a> {
    /// The tensor being read, for errors.
    current: &'a RefCell<String>,
    /// The types that were found so far: a file has few, and many tensors.
    types: &'a RefCell<Vec<(Dtype, DType)>>,
}

impl HeaderSeed<'_> {
    fn stored(self, dtype: Dtype) -> Result<DType, String> {
        if let Some((_, stored)) = self.types.borrow().iter().find(|(known, _)| *known == dtype) {
            return Ok(*stored);
        }
        let name = dtype.to_string();
        let stored = DType::from_dtype(&name).ok_or_else(|| format!("its dtype {name} is unknown"))?;
        self.types.borrow_mut().push((dtype, stored));
        Ok(stored)
    }
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = (TextMap, Vec<TensorInfo>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = (TextMap, Vec<TensorInfo>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut metadata, mut tensors) = (None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            self.current.replace(name);
            if *self.current.borrow() != METADATA {
                let entry = map.next_value::<Compound<Entry>>()?;
                tensors.push(entry.0.into_info(self).map_err(A::Error::custom)?);
            } else if metadata.replace(map.next_value::<Option<TextMap>>()?).is_some() {
                return Err(A::Error::custom("it is given twice"));
            }
            self.current.take();
            if tensors.len() as u64 > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
        }
        Ok((metadata.flatten().unwrap_or_default(), tensors))
    }
}

/// A tensor as the header lists it.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: Compound<(Count, Count)>,
}

impl Entry {
    /// The checked entry; takes its name only if nothing is wrong.
    fn into_info(self, seed: HeaderSeed<'_>) -> Result<TensorInfo, String> {
        let dtype = seed.stored(self.dtype)?;
        let bytes = dtype.bytes_of(&self.shape.0)?;
        let Compound((Count(start), Count(end))) = self.data_offsets;
        if end.checked_sub(start) != Some(bytes) {
            let shape = self.shape.0;
            return Err(format!(
                "{dtype} {shape:?} takes {bytes} bytes, its data_offsets are {start}..{end}"
            ));
        }
        if end > i64::MAX as u64 {
            return Err(format!("its data_offsets {start}..{end} are beyond any file"));
        }
        Ok(TensorInfo {
            name: seed.current.take(),
            dtype,
            shape: self.shape.0,
            offset: start,
            bytes,
            file: 0,
            module: None,
        })
    }
}

/// Dimensions, outermost first; bounded, because a list of a million ones is a short text.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Shape, E> {
        Err(json::no_text(&self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut dims = Vec::with_capacity(2);
        while let Some(Count(dim)) = seq.next_element()? {
            if dims.len() == MAX_DIMS {
                return Err(A::Error::custom(format!("its shape has more than {MAX_DIMS} dimensions")));
            }
            dims.push(dim);
        }
        Ok(Shape(dims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_of_the_crate_has_a_row_of_the_same_size() {
        let names = [
            "BOOL",
            "F4",
            "F6_E2M3",
            "F6_E3M2",
            "U8",
            "I8",
            "F8_E5M2",
            "F8_E4M3",
            "F8_E8M0",
            "F8_E4M3FNUZ",
            "F8_E5M2FNUZ",
            "I16",
            "U16",
            "F16",
            "BF16",
            "I32",
            "U32",
            "F32",
            "C64",
            "F64",
            "I64",
            "U64",
        ];
        for name in names {
            let dtype: Dtype = serde_json::from_value(name.into()).unwrap();
            let stored = DType::from_dtype(&dtype.to_string()).expect(name);
            assert_eq!(stored.bits_per_weight(), dtype.bitsize() as f64, "{name}");
        }
    }
}
