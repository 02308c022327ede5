//! NumPy's `.npy`: one array of f32 or f16, behind a header that is a dictionary of Python.
//!
//! ```text
//! "\x93NUMPY"  u8 major  u8 minor  u16 length (u32 from version 2 on)
//! {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  padding  newline, then the data
//! ```

use crate::error::{Error, Result};
use crate::file::container::source::{Source, read_up_to};
use crate::file::names::{clipped, shown};
use bytes::Bytes;
use std::io::Read;
use std::path::Path;

/// First bytes of every such file.
pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header that is read; NumPy itself reads 10,000 bytes.
const MAX_HEADER: u64 = 65_535;

/// An array as floats.
#[derive(Debug)]
pub(crate) struct Array {
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, row by row.
    pub data: Vec<f32>,
}

/// What a header says, checked.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: Type,
    shape: Vec<usize>,
    /// Where the data begins.
    start: u64,
    /// Where it ends.
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Type {
    is_half: bool,
    is_big_endian: bool,
}

impl Type {
    fn bytes(self) -> u64 {
        if self.is_half { 2 } else { 4 }
    }
}

/// True for a file that begins as one of NumPy's.
pub(crate) fn is_one(source: &Source) -> Result<bool> {
    Ok(source.copy(0..source.len().min(MAGIC.len() as u64))?.starts_with(MAGIC))
}

/// The array of a file.
///
/// # Errors
/// [`Error::Malformed`] for a file that contradicts the format or its own length,
/// [`Error::UnsupportedFormat`] for other types than f32 and f16 and for Fortran's order.
pub(crate) fn read(source: &Source) -> Result<Array> {
    let lengths = Lengths::of(&source.copy(0..source.len().min(Lengths::LONGEST))?);
    let lengths = lengths.map_err(|problem| malformed(source.path(), 0, problem))?;
    let head = source.copy(0..source.len().min(lengths.header_end()))?;
    let header = Header::parse(source.path(), &head, lengths)?;
    if header.end != source.len() {
        let (bytes, follow) = (header.end - header.start, source.len() - header.start);
        let truncated = if header.end > source.len() { ": it is truncated" } else { "" };
        let problem = format!("its header describes {bytes} bytes of data, {follow} follow{truncated}");
        return Err(malformed(source.path(), header.start, problem));
    }
    let bytes = source.copy(header.start..header.end)?;
    let Type { is_half, is_big_endian } = header.dtype;
    let half =
        |b: &[u8; 2]| if is_big_endian { half::f16::from_be_bytes(*b) } else { half::f16::from_le_bytes(*b) };
    let full = |b: &[u8; 4]| if is_big_endian { f32::from_be_bytes(*b) } else { f32::from_le_bytes(*b) };
    let data = if is_half {
        bytes.as_chunks().0.iter().map(|b| half(b).to_f32()).collect()
    } else {
        bytes.as_chunks().0.iter().map(full).collect()
    };
    Ok(Array { shape: header.shape, data })
}

/// Reads a file from a stream, and one byte at most beyond what its header claims, which tells that
/// there is more.
///
/// # Errors
/// As [`read`] of what the header says, and [`Error::Io`].
pub(crate) fn read_stream(label: &Path, from: &mut dyn Read) -> Result<Bytes> {
    let mut bytes = vec![];
    read_up_to(label, from, &mut bytes, Lengths::LONGEST)?;
    let lengths = Lengths::of(&bytes).map_err(|problem| malformed(label, 0, problem))?;
    read_up_to(label, from, &mut bytes, lengths.header_end())?;
    let header = Header::parse(label, &bytes, lengths)?;
    read_up_to(label, from, &mut bytes, header.end.saturating_add(1))?;
    Ok(bytes.into())
}

/// What stands before the dictionary.
#[derive(Clone, Copy)]
struct Lengths {
    /// Where the dictionary begins.
    start: u64,
    /// Its bytes, with the padding.
    header: u64,
}

impl Lengths {
    /// Bytes up to the dictionary of the newer versions.
    const LONGEST: u64 = 12;

    fn of(head: &[u8]) -> Result<Self, String> {
        let rest = head.strip_prefix(MAGIC).ok_or("it does not begin as a .npy file")?;
        let broken = || format!("it breaks off after {} bytes, in its header", head.len());
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(broken)?;
        let (start, header) = match version {
            [1, 0] => (10, u64::from(u16::from_le_bytes(*rest.first_chunk().ok_or_else(broken)?))),
            [2 | 3, 0] => (12, u64::from(u32::from_le_bytes(*rest.first_chunk().ok_or_else(broken)?))),
            [major, minor] => {
                return Err(format!(
                    "its version {major}.{minor} is unknown; 1.0, 2.0 and 3.0 are supported"
                ));
            }
        };
        if header > MAX_HEADER {
            return Err(format!("its header claims {header} bytes, the limit is {MAX_HEADER}"));
        }
        Ok(Self { start, header })
    }

    fn header_end(self) -> u64 {
        self.start + self.header
    }
}

impl Header {
    /// `head` holds the file's bytes up to the data, if the file is long enough.
    fn parse(path: &Path, head: &[u8], lengths: Lengths) -> Result<Self> {
        let Some(text) = head.get(lengths.start as usize..lengths.header_end() as usize) else {
            let (length, left) = (lengths.header, head.len() as u64 - lengths.start.min(head.len() as u64));
            let problem = format!("its header claims {length} bytes, {left} follow: it is truncated");
            return Err(malformed(path, lengths.start, problem));
        };
        let fields = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".into());
        let fields = fields.and_then(Fields::parse);
        let Fields { descr, is_fortran, shape } =
            fields.map_err(|problem| malformed(path, lengths.start, problem))?;
        let unsupported = |format: String, supported: &str| Error::UnsupportedFormat {
            tensor: shown(&path.display().to_string()),
            format,
            supported: supported.into(),
        };
        let Some(dtype) = type_of(&descr) else {
            let format = match &*descr {
                "<V2" | "|V2" | "bfloat16" => {
                    format!("{descr}, which may be bfloat16 of ml_dtypes and does not say so")
                }
                other => clipped(other, 40),
            };
            return Err(unsupported(format, "float32 and float16 in .npy files"));
        };
        if is_fortran {
            let format = "an array in Fortran's order, column by column".into();
            return Err(unsupported(format, "C's order, as numpy.ascontiguousarray gives"));
        }
        // Zeros must not hide sizes that no one can count.
        let bytes = |least: u64| {
            let mut dims = shape.iter().map(|dim| (*dim).max(least));
            dims.try_fold(dtype.bytes(), |product, dim| product.checked_mul(dim))
        };
        let start = lengths.header_end();
        let end = bytes(1).and(bytes(0)).and_then(|bytes| bytes.checked_add(start));
        let sizes: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        match (end, sizes) {
            (Some(end), Some(shape)) => Ok(Self { dtype, shape, start, end }),
            _ => Err(malformed(path, lengths.start, format!("its shape {shape:?} is larger than any file"))),
        }
    }
}

/// The type that NumPy writes so; `None` for all that are not taken.
fn type_of(descr: &str) -> Option<Type> {
    let (order, size) = descr.split_at_checked(1)?;
    let is_half = match size {
        "f2" => true,
        "f4" => false,
        _ => return None,
    };
    match order {
        // NumPy itself writes no `=`.
        "<" => Some(Type { is_half, is_big_endian: false }),
        ">" => Some(Type { is_half, is_big_endian: true }),
        _ => None,
    }
}

/// The three fields of the dictionary.
struct Fields {
    descr: String,
    is_fortran: bool,
    shape: Vec<u64>,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let (mut descr, mut is_fortran, mut shape) = (None, None, None);
        parser.expect('{')?;
        while !parser.takes('}') {
            let key = parser.string()?;
            parser.expect(':')?;
            let is_new = match key {
                "descr" => descr.replace(parser.descr()?).is_none(),
                "fortran_order" => is_fortran.replace(parser.boolean()?).is_none(),
                "shape" => shape.replace(parser.shape()?).is_none(),
                other => return Err(format!("its key `{}` is unknown", shown(other))),
            };
            if !is_new {
                return Err(format!("its key `{key}` is given twice"));
            }
            if !parser.takes(',') {
                parser.expect('}')?;
                break;
            }
        }
        if !parser.rest.trim().is_empty() {
            return Err(format!("`{}` follows its dictionary", clipped(parser.rest.trim(), 40)));
        }
        match (descr, is_fortran, shape) {
            (Some(descr), Some(is_fortran), Some(shape)) => Ok(Self { descr, is_fortran, shape }),
            _ => Err("it lacks one of the keys `descr`, `fortran_order` and `shape`".into()),
        }
    }
}

/// Literals of Python, one behind another.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Takes a character if it is the next.
    fn takes(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.strip_prefix(wanted).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.takes(wanted) { Ok(()) } else { Err(self.wrong(&format!("`{wanted}`"))) }
    }

    fn wrong(&self, wanted: &str) -> String {
        let found = clipped(self.rest.trim(), 40);
        match &*found {
            "" => format!("{wanted} belongs at the end of its dictionary"),
            found => format!("{wanted} belongs where `{found}` stands"),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = ['\'', '"'].into_iter().find(|quote| self.takes(*quote));
        let Some((text, rest)) = quote.and_then(|quote| self.rest.split_once(quote)) else {
            return Err(self.wrong("a string"));
        };
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.wrong("`True` or `False`"))
    }

    fn number(&mut self) -> Result<u64, String> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().map_err(|_| self.wrong("a number"))?;
        // Python 2 wrote `3L`.
        let rest = &self.rest[end..];
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        Ok(number)
    }

    fn shape(&mut self) -> Result<Vec<u64>, String> {
        self.expect('(')?;
        let mut shape = vec![];
        while !self.takes(')') {
            shape.push(self.number()?);
            if !self.takes(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    /// A type: a string, or a list for records, which is returned as it stands.
    fn descr(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with('[') {
            return self.string().map(Into::into);
        }
        let mut depth = 0usize;
        for (at, c) in self.rest.char_indices() {
            match c {
                '[' | '(' => depth += 1,
                ']' | ')' if depth == 1 => {
                    let (list, rest) = self.rest.split_at(at + 1);
                    self.rest = rest;
                    return Ok(list.into());
                }
                ']' | ')' => depth -= 1,
                _ => {}
            }
        }
        Err(self.wrong("a type"))
    }
}

fn malformed(path: &Path, offset: u64, problem: String) -> Error {
    Error::Malformed { file: path.display().to_string(), what: "header".into(), offset, problem }
}
