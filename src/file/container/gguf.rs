//! Reads the header of a GGUF file, versions 2 and 3.
//!
//! A header is a list of claims: counts, lengths, types, offsets. Each is checked against the bytes
//! that are there before anything is allocated or skipped on its word, and the first that fails is
//! reported with the key or tensor it belongs to and its offset. Work is linear in the header.
//! Layout, all little-endian:
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 keys
//! keys ×     string key, u32 type, value        string = u64 length, bytes; array = u32 type, u64
//! count, values tensors ×  string name, u32 n, u64 dims[n], u32 type, u64 offset          dims
//! innermost first, offset in the data padding to general.alignment, then the data
//! ```

pub use crate::file::container::gguf_value::{Array, Metadata, Value, ValueType};

use crate::error::{Error, Result};
use crate::file::container::source::Source;
use crate::file::container::stored::DType;
use crate::file::container::tensors::{MAX_TENSORS, TensorInfo, TensorTable};
use crate::file::names::shown;
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;

/// First bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";
/// Where a file says nothing else, tensors start at multiples of this.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// The most that a file may say instead, since each tensor of a file that is written is padded to
/// it; real files have 32.
const MAX_ALIGNMENT: u32 = 1 << 20;
/// The key that says something else.
pub const ALIGNMENT_KEY: &str = "general.alignment";
/// The most keys of one file, which bounds the time to open it; real files have about 50.
pub(crate) const MAX_KEYS: u64 = 1 << 20;
/// GGUF's own limit for keys; tensor names get the same.
pub(crate) const MAX_NAME: u64 = 65_535;
/// Arrays in arrays in arrays: more than any writer makes, less than a stack.
const MAX_DEPTH: u32 = 16;
/// The most dimensions ggml knows.
pub(crate) const MAX_DIMS: u32 = 4;
/// Bytes read at a time from a file.
const STEP: u64 = 64 << 10;

/// What the header of a GGUF file says, checked.
#[derive(Debug)]
pub(crate) struct Gguf {
    pub version: u32,
    pub metadata: Metadata,
    pub tensors: TensorTable,
}

/// Reads and checks the header. Touches no tensor's bytes beyond the read-ahead of [`STEP`].
pub(crate) fn open(source: &Source) -> Result<Gguf> {
    let mut reader = Reader::new(source);
    let counts = reader.preamble().map_err(|fault| fault.blame(source, "header"))?;
    let starts = reader.entries(counts.keys)?;
    let (mut tensors, claims) = reader.infos(counts.tensors)?;
    let (end, header) = (reader.at as u64, reader.into_header()?);

    let metadata = Metadata::new(header, starts).map_err(|(key, start)| {
        Fault::bad(start, "this key was given before".into()).blame(source, &format!("key `{}`", shown(&key)))
    })?;
    let alignment = alignment(source, &metadata)?;
    place(source, &mut tensors, &claims, Region { header_end: end, alignment })?;
    let tensors = TensorTable::new(tensors).map_err(|(i, tensors)| {
        let what = format!("tensor `{}`", shown(&tensors[i].name));
        Fault::bad(claims[i].start, "a tensor of this name was listed before".into()).blame(source, &what)
    })?;
    Ok(Gguf { version: counts.version, metadata, tensors })
}

/// What is wrong and where, before it is known what it belongs to.
enum Fault {
    Bad { at: u64, problem: String },
    Failed(Error),
}

impl Fault {
    fn bad(at: u64, problem: String) -> Self {
        Self::Bad { at, problem }
    }

    fn blame(self, source: &Source, what: &str) -> Error {
        match self {
            Self::Bad { at: offset, problem } => {
                Error::Malformed { file: source.label(), what: what.into(), offset, problem }
            }
            Self::Failed(error) => error,
        }
    }
}

struct Counts {
    version: u32,
    tensors: u64,
    keys: u64,
}

/// Where a tensor's entry makes its claims, for messages after the header is read.
struct Claim {
    start: u64,
    offset_field: u64,
}

/// A position in the header, and the part of the file that has been read so far (all of it, if it
/// is in memory).
struct Reader<'a> {
    source: &'a Source,
    held: Cow<'a, [u8]>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source) -> Self {
        let held = source.in_memory().map_or(Cow::Owned(Vec::new()), |bytes| Cow::Borrowed(&bytes[..]));
        Self { source, held, at: 0 }
    }

    /// The header as bytes that live on: a slice of what is in memory, or what was read. Of a map
    /// it would change with the file.
    fn into_header(self) -> Result<Bytes> {
        match self.held {
            Cow::Borrowed(_) => self.source.read(0..self.at as u64),
            Cow::Owned(mut bytes) => {
                bytes.truncate(self.at);
                bytes.shrink_to_fit();
                Ok(bytes.into())
            }
        }
    }

    fn offset(&self) -> u64 {
        self.at as u64
    }

    fn left(&self) -> u64 {
        self.source.len() - self.offset()
    }

    /// Takes `n` bytes, whose position it returns.
    fn take(&mut self, n: u64) -> Result<Range<usize>, Fault> {
        if n > self.left() {
            let problem = format!("{n} bytes should follow, but the file ends after {}", self.left());
            return Err(Fault::bad(self.offset(), self.truncated(problem)));
        }
        let end = usize::try_from(self.offset() + n).map_err(|_| self.too_large())?;
        if end > self.held.len() {
            self.read_up_to(end as u64)?;
        }
        Ok(std::mem::replace(&mut self.at, end)..end)
    }

    /// What is wrong where the file ends too early: most often it was not copied to its end.
    fn truncated(&self, problem: String) -> String {
        format!("{problem}: it is truncated to {} bytes, or damaged", self.source.len())
    }

    fn too_large(&self) -> Fault {
        Fault::bad(self.offset(), "the header does not fit this machine's address space".into())
    }

    #[cold]
    fn read_up_to(&mut self, end: u64) -> Result<(), Fault> {
        let held = self.held.len() as u64;
        let end = end.max(held + STEP).min(self.source.len());
        self.source.append(self.held.to_mut(), held..end).map_err(Fault::Failed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let range = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.held[range]);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<Range<usize>, Fault> {
        let len = self.u64()?;
        self.take(len)
    }

    fn utf8(&mut self) -> Result<&str, Fault> {
        let range = self.string()?;
        std::str::from_utf8(&self.held[range.clone()]).map_err(|e| {
            let at = range.start + e.valid_up_to();
            Fault::bad(at as u64, format!("its byte {} is not UTF-8", e.valid_up_to()))
        })
    }

    /// A key or a tensor's name.
    fn name(&mut self) -> Result<&str, Fault> {
        let at = self.offset();
        let len = u64::from_le_bytes(self.array()?);
        if len > MAX_NAME {
            let problem = format!("its name claims {len} bytes, the limit is {MAX_NAME}");
            return Err(Fault::bad(at, problem));
        }
        self.at = at as usize;
        self.utf8()
    }

    fn preamble(&mut self) -> Result<Counts, Fault> {
        if self.array::<4>()? != *MAGIC {
            return Err(Fault::bad(0, "it does not begin with \"GGUF\"".into()));
        }
        let version = self.u32()?;
        check_version(version).map_err(|problem| Fault::bad(4, problem))?;
        let (tensors, keys) = (self.u64()?, self.u64()?);
        if tensors > MAX_TENSORS {
            return Err(Fault::bad(8, format!("it claims {tensors} tensors, the limit is {MAX_TENSORS}")));
        }
        if keys > MAX_KEYS {
            return Err(Fault::bad(16, format!("it claims {keys} keys, the limit is {MAX_KEYS}")));
        }
        // A key takes 13 bytes at least: its length, its type, and a value of one byte; a tensor
        // 24.
        let (least, left) = (keys * 13 + tensors * 24, self.left());
        if least > left {
            let claim = format!("it claims {keys} keys and {tensors} tensors");
            let problem = format!("{claim}, {least} bytes at least; {left} follow");
            return Err(Fault::bad(8, self.truncated(problem)));
        }
        Ok(Counts { version, tensors, keys })
    }

    /// Walks over `count` entries. Returns where each starts, and where the last ends.
    fn entries(&mut self, count: u64) -> Result<Vec<u64>> {
        let mut starts = Vec::with_capacity(count as usize + 1);
        for i in 0..count {
            starts.push(self.offset());
            self.entry(i)?;
        }
        starts.push(self.offset());
        Ok(starts)
    }

    fn entry(&mut self, i: u64) -> Result<()> {
        let source = self.source;
        let start = self.at;
        self.name().map_err(|fault| fault.blame(source, &format!("key #{i}")))?;
        let name = start + 8..self.at;
        self.value_type().and_then(|t| self.skip(t, 0)).map_err(|fault| {
            let key = String::from_utf8_lossy(&self.held[name]);
            fault.blame(source, &format!("key `{}`", shown(&key)))
        })
    }

    fn value_type(&mut self) -> Result<ValueType, Fault> {
        let at = self.offset();
        let id = self.u32()?;
        ValueType::from_id(id)
            .ok_or_else(|| Fault::bad(at, format!("its value type {id} is unknown (0 to 12 are known)")))
    }

    /// Checks a value and steps over it.
    fn skip(&mut self, value_type: ValueType, depth: u32) -> Result<(), Fault> {
        match value_type {
            ValueType::Bool => self.check_bools(1),
            ValueType::String => self.utf8().map(drop),
            ValueType::Array => self.skip_array(depth),
            _ => self.take(value_type.least_size()).map(drop),
        }
    }

    fn skip_array(&mut self, depth: u32) -> Result<(), Fault> {
        let at = self.offset();
        if depth == MAX_DEPTH {
            return Err(Fault::bad(at, format!("its arrays are nested more than {MAX_DEPTH} deep")));
        }
        let element = self.value_type()?;
        let count = self.u64()?;
        let least = count.checked_mul(element.least_size()).filter(|&least| least <= self.left());
        let Some(least) = least else {
            let (name, left) = (format!("{element:?}"), self.left());
            let problem = format!("its array claims {count} x {name}, {left} bytes follow");
            return Err(Fault::bad(at + 4, self.truncated(problem)));
        };
        match element {
            ValueType::Bool => self.check_bools(count),
            ValueType::String => (0..count).try_for_each(|_| self.string().map(drop)),
            ValueType::Array => (0..count).try_for_each(|_| self.skip_array(depth + 1)),
            _ => self.take(least).map(drop),
        }
    }

    fn check_bools(&mut self, count: u64) -> Result<(), Fault> {
        let range = self.take(count)?;
        match self.held[range.clone()].iter().position(|&b| b > 1) {
            None => Ok(()),
            Some(i) => {
                let problem = format!("a bool must be 0 or 1, got {}", self.held[range.start + i]);
                Err(Fault::bad((range.start + i) as u64, problem))
            }
        }
    }

    /// The tensor entries; their offsets are still relative to the data.
    fn infos(&mut self, count: u64) -> Result<(Vec<TensorInfo>, Vec<Claim>)> {
        let mut infos = Vec::with_capacity(count as usize);
        let mut claims = Vec::with_capacity(count as usize);
        for i in 0..count {
            let start = self.offset();
            infos.push(self.info(i)?);
            claims.push(Claim { start, offset_field: self.offset() - 8 });
        }
        Ok((infos, claims))
    }

    fn info(&mut self, i: u64) -> Result<TensorInfo> {
        let source = self.source;
        let name = self.name().map(str::to_owned);
        let name = name.map_err(|fault| fault.blame(source, &format!("tensor #{i}")))?;
        match self.shape_and_type() {
            Ok((shape, dtype, bytes, offset)) => {
                Ok(TensorInfo { name, dtype, shape, offset, bytes, file: 0, module: None })
            }
            Err(fault) => Err(fault.blame(source, &format!("tensor `{}`", shown(&name)))),
        }
    }

    fn shape_and_type(&mut self) -> Result<(Vec<u64>, DType, u64, u64), Fault> {
        let shape_at = self.offset();
        let dims = self.u32()?;
        if dims > MAX_DIMS {
            return Err(Fault::bad(
                shape_at,
                format!("it claims {dims} dimensions, the limit is {MAX_DIMS}"),
            ));
        }
        let mut shape = (0..dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let type_at = self.offset();
        let dtype = DType::from_gguf(self.u32()?).map_err(|problem| Fault::bad(type_at, problem))?;
        let bytes = dtype.bytes_of_rows(&shape).map_err(|problem| Fault::bad(shape_at, problem))?;
        Ok((shape, dtype, bytes, self.u64()?))
    }
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        2 | 3 => Ok(()),
        1 => Err("GGUF version 1 is not supported (2 and 3 are); convert the model again".into()),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            let version = version.swap_bytes();
            Err(format!(
                "it is a big-endian file (version {version}, bytes swapped); only little-endian is supported"
            ))
        }
        _ => Err(format!("GGUF version {version} is unknown; 2 and 3 are supported")),
    }
}

fn alignment(source: &Source, metadata: &Metadata) -> Result<u64> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    check_alignment(value).map_err(|problem| {
        Fault::bad(metadata.offset(ALIGNMENT_KEY), problem).blame(source, &format!("key `{ALIGNMENT_KEY}`"))
    })
}

/// The alignment that `value` means, or what is wrong with it.
pub(crate) fn check_alignment(value: Value<'_>) -> Result<u64, String> {
    match value {
        Value::U32(n) if n > MAX_ALIGNMENT => {
            Err(format!("the alignment must be {MAX_ALIGNMENT} at most, got {n}"))
        }
        Value::U32(n) if n > 0 && n.is_multiple_of(8) => Ok(n.into()),
        Value::U32(n) => Err(format!("the alignment must be a multiple of 8 above 0, got {n}")),
        other => Err(format!("the alignment must be a U32, got {:?}", other.value_type())),
    }
}

/// What tensors are placed by.
struct Region {
    header_end: u64,
    alignment: u64,
}

/// Turns relative offsets into absolute ones, and checks that each tensor has bytes of its own
/// inside the file.
fn place(source: &Source, tensors: &mut [TensorInfo], claims: &[Claim], region: Region) -> Result<()> {
    let data = region.header_end.next_multiple_of(region.alignment);
    let ends = tensors.iter().map(|t| data.saturating_add(t.offset).saturating_add(t.bytes));
    let room = Room { data, file: source.len(), wanted: ends.max().unwrap_or(data) };
    for (tensor, claim) in tensors.iter_mut().zip(claims) {
        let offset = tensor.offset;
        let placed = absolute(tensor, &region, &room);
        tensor.offset = placed.map_err(|problem| {
            let what = format!("tensor `{}`", shown(&tensor.name));
            Fault::bad(claim.offset_field, format!("its data offset {offset} {problem}")).blame(source, &what)
        })?;
    }
    refuse_overlap(source, tensors, claims)
}

/// What there is for the data.
struct Room {
    /// Where it begins.
    data: u64,
    /// Bytes of the file.
    file: u64,
    /// Bytes of the file that its header describes.
    wanted: u64,
}

fn absolute(tensor: &TensorInfo, region: &Region, room: &Room) -> Result<u64, String> {
    if !tensor.offset.is_multiple_of(region.alignment) {
        return Err(format!("is not a multiple of the alignment {}", region.alignment));
    }
    let start = room.data.checked_add(tensor.offset);
    let inside = |start: &u64| start.checked_add(tensor.bytes).is_some_and(|end| end <= room.file);
    start.filter(inside).ok_or_else(|| {
        let Room { data, file, wanted } = room;
        format!(
            "and {} bytes, after byte {data}, end beyond the file of {file}: it is truncated, its header describes {wanted} bytes",
            tensor.bytes
        )
    })
}

fn refuse_overlap(source: &Source, tensors: &[TensorInfo], claims: &[Claim]) -> Result<()> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).filter(|&i| tensors[i as usize].bytes > 0).collect();
    order.sort_by_key(|&i| tensors[i as usize].offset);
    for pair in order.windows(2) {
        let [first, second] = [pair[0], pair[1]].map(|i| &tensors[i as usize]);
        if first.offset + first.bytes > second.offset {
            let (what, other) = (format!("tensor `{}`", shown(&second.name)), shown(&first.name));
            let end = first.offset + first.bytes;
            let problem = format!(
                "its data starts at byte {}, but `{other}` occupies {}..{end}",
                second.offset, first.offset
            );
            return Err(Fault::bad(claims[pair[1] as usize].offset_field, problem).blame(source, &what));
        }
    }
    Ok(())
}
