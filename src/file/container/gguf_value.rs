//! The metadata of a GGUF file. It stays encoded, as in the file, and a value is decoded when
//! someone looks at it: a vocabulary of 262,144 strings then costs nothing to open and the file's
//! own bytes to hold.

use crate::file::names::NameIndex;
use bytes::Bytes;
use std::fmt;

/// The type of a metadata value; the discriminants are the numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes of a value; `None` for strings and arrays.
    pub fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The fewest bytes a value can have: an empty string is its length, an empty array its type
    /// and count.
    pub(crate) fn least_size(self) -> u64 {
        self.size().unwrap_or(if self == Self::String { 8 } else { 12 })
    }
}

/// A metadata value, borrowed from the file's header.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// UTF-8 where it stands alone. In arrays any bytes: real vocabularies hold tokens that are
    /// parts of characters.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// Any floating-point number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A string, if its bytes are UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        match self {
            Self::Array(array) => Some(*array),
            _ => None,
        }
    }

    /// Takes one value off the front of `bytes`; `None` where they end too early.
    fn decode(value_type: ValueType, bytes: &mut &'a [u8]) -> Option<Self> {
        Some(match value_type {
            ValueType::U8 => Self::U8(u8::from_le_bytes(take(bytes)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(take(bytes)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(take(bytes)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(take(bytes)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(take(bytes)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(take(bytes)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(take(bytes)?)),
            ValueType::Bool => Self::Bool(take::<1>(bytes)?[0] != 0),
            ValueType::String => Self::String(take_string(bytes)?),
            ValueType::Array => Self::Array(Array::decode(bytes)?),
            ValueType::U64 => Self::U64(u64::from_le_bytes(take(bytes)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(take(bytes)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(take(bytes)?)),
        })
    }

    /// Appends the value as a file holds it, without its type.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.extend(v.to_le_bytes()),
            Self::I8(v) => out.extend(v.to_le_bytes()),
            Self::U16(v) => out.extend(v.to_le_bytes()),
            Self::I16(v) => out.extend(v.to_le_bytes()),
            Self::U32(v) => out.extend(v.to_le_bytes()),
            Self::I32(v) => out.extend(v.to_le_bytes()),
            Self::F32(v) => out.extend(v.to_le_bytes()),
            Self::Bool(v) => out.push((*v).into()),
            Self::String(v) => {
                out.extend((v.len() as u64).to_le_bytes());
                out.extend(*v);
            }
            Self::Array(v) => {
                out.extend((v.element as u32).to_le_bytes());
                out.extend(v.len.to_le_bytes());
                out.extend(v.bytes);
            }
            Self::U64(v) => out.extend(v.to_le_bytes()),
            Self::I64(v) => out.extend(v.to_le_bytes()),
            Self::F64(v) => out.extend(v.to_le_bytes()),
        }
    }
}

/// How many elements of an array, and how many characters of a string, [`Value`]'s `Display`
/// prints.
const SHOWN: (usize, usize) = (6, 200);

impl fmt::Display for Value<'_> {
    /// On one line; long strings and arrays are cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(v) => v.fmt(f),
            Self::I8(v) => v.fmt(f),
            Self::U16(v) => v.fmt(f),
            Self::I16(v) => v.fmt(f),
            Self::U32(v) => v.fmt(f),
            Self::I32(v) => v.fmt(f),
            Self::F32(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::String(v) => {
                let head = &v[..v.len().min(4 * SHOWN.1)];
                f.write_str(&crate::file::names::clipped(&String::from_utf8_lossy(head), SHOWN.1))
            }
            Self::Array(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
        }
    }
}

/// An array of metadata values of one type, still encoded.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: u64,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of every element.
    pub fn element_type(&self) -> ValueType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order, decoded one by one.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Self { element, len, mut bytes } = *self;
        (0..len).map_while(move |_| Value::decode(element, &mut bytes))
    }

    fn decode(bytes: &mut &'a [u8]) -> Option<Self> {
        let element = ValueType::from_id(u32::from_le_bytes(take(bytes)?))?;
        let len = u64::from_le_bytes(take(bytes)?);
        let start = *bytes;
        match element.size() {
            Some(size) => *bytes = bytes.get(usize::try_from(len.checked_mul(size)?).ok()?..)?,
            None => (0..len).try_for_each(|_| Value::decode(element, bytes).map(drop))?,
        }
        Some(Self { element, len, bytes: &start[..start.len() - bytes.len()] })
    }
}

impl fmt::Display for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.iter().take(SHOWN.0).map(|v| v.to_string()).collect();
        let more = if self.len > SHOWN.0 as u64 { ", …" } else { "" };
        write!(f, "[{}{more}] ({} x {:?})", shown.join(", "), self.len, self.element)
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u64::from_le_bytes(take(bytes)?)).ok()?;
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

/// The keys and values of a GGUF file, in its order.
#[derive(Default)]
pub struct Metadata {
    /// The checked header; entries lie at `starts[i]..starts[i + 1]`.
    header: Bytes,
    starts: Vec<u64>,
    index: NameIndex,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.starts.len().saturating_sub(1);
        f.debug_struct("Metadata").field("entries", &entries).finish_non_exhaustive()
    }
}

impl Metadata {
    /// `starts` has one element more than there are entries, the end of the last.
    ///
    /// # Errors
    /// The first key that occurred before, and its offset.
    pub(crate) fn new(header: Bytes, starts: Vec<u64>) -> Result<Self, (String, u64)> {
        match NameIndex::new(starts.len().saturating_sub(1), |i| key_at(&header, starts[i])) {
            Ok(index) => Ok(Self { header, starts, index }),
            Err(i) => Err((text(key_at(&header, starts[i])).into(), starts[i])),
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let i = self.index.find(&[key.as_bytes()], |i| key_at(&self.header, self.starts[i]))?;
        self.entry(i).map(|(_, value)| value)
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        (0..self.len()).filter_map(|i| self.entry(i))
    }

    /// Offset of the entry with this key from the start of the file.
    pub(crate) fn offset(&self, key: &str) -> u64 {
        let at = self.index.find(&[key.as_bytes()], |i| key_at(&self.header, self.starts[i]));
        at.map_or(0, |i| self.starts[i])
    }

    /// Keys with their encoded types and values, for copying.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = (&str, Bytes)> {
        (0..self.len()).map(|i| {
            let key = key_at(&self.header, self.starts[i]);
            let start = self.starts[i] as usize + 8 + key.len();
            let end = self.starts[i + 1] as usize;
            (text(key), self.header.slice(start.min(end)..end))
        })
    }

    /// Never `None`: the entry was checked when the file was opened.
    fn entry(&self, i: usize) -> Option<(&str, Value<'_>)> {
        let key = key_at(&self.header, self.starts[i]);
        let mut rest = &self.header[self.starts[i] as usize + 8 + key.len()..];
        let value_type = ValueType::from_id(u32::from_le_bytes(take(&mut rest)?))?;
        Some((text(key), Value::decode(value_type, &mut rest)?))
    }
}

/// The key of the entry that starts at `at`; both were checked when the file was opened.
fn key_at(header: &[u8], at: u64) -> &[u8] {
    take_string(&mut &header[at as usize..]).unwrap_or_default()
}

fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}
