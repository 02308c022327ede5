//! The bytes of one opened file: in memory, mapped, read when they are asked for, or fetched by
//! ranges.

use crate::error::{Error, Result};
use crate::file::container::ranges::{RangeFile, changed};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// How to open a file.
///
/// ```no_run
/// use qmatmul::file::{Model, OpenOptions};
///
/// # fn main() -> qmatmul::Result<()> {
/// // A file that others write to.
/// let model = Model::open("model.gguf", &OpenOptions { mmap: false })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Map the file into memory, so that tensors are slices of it. Without, a tensor is read when
    /// it is asked for.
    ///
    /// Headers are copied in any case, and before a slice is handed out the file must be as long as
    /// it was when it was opened. But if someone truncates the file in place while a slice is in
    /// use, the system stops this process (a bus error), and if someone overwrites it, the numbers
    /// change. Take `false` for files that others may change; replacing a file by renaming another
    /// does no harm.
    pub mmap: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { mmap: true }
    }
}

/// Reads on from a stream until `bytes` are `end` bytes, or the stream ends.
pub(crate) fn read_up_to(label: &Path, from: &mut dyn Read, bytes: &mut Vec<u8>, end: u64) -> Result<()> {
    let missing = end.saturating_sub(bytes.len() as u64);
    from.take(missing).read_to_end(bytes).map_err(Error::io("reading", label))?;
    Ok(())
}

/// A file whose length is known and whose bytes come as [`Bytes`]: slices of the map where there is
/// one.
pub(crate) struct Source {
    path: PathBuf,
    len: u64,
    backing: Backing,
}

enum Backing {
    Memory(Bytes),
    /// Reading moves the file's one position, hence the lock.
    File {
        file: Mutex<File>,
        map: Option<Bytes>,
    },
    Ranges(RangeFile),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a regular file.
    pub fn open(path: &Path, mmap: bool) -> Result<Self> {
        let file = open_regular(path)?;
        let len = file.metadata().map_err(Error::io("opening", path))?.len();
        let map = (mmap && len > 0).then(|| map(path, &file)).transpose()?;
        Ok(Self { path: path.into(), len, backing: Backing::File { file: file.into(), map } })
    }

    /// Bytes that are already in memory, under the name `label`.
    pub fn from_bytes(label: &Path, bytes: Bytes) -> Self {
        Self { path: label.into(), len: bytes.len() as u64, backing: Backing::Memory(bytes) }
    }

    /// A file of which what was fetched can be read.
    pub fn from_ranges(file: RangeFile) -> Self {
        Self { path: file.path().into(), len: file.len(), backing: Backing::Ranges(file) }
    }

    /// The file, if it comes by ranges.
    pub fn ranges(&self) -> Option<&RangeFile> {
        match &self.backing {
            Backing::Ranges(file) => Some(file),
            Backing::Memory(_) | Backing::File { .. } => None,
        }
    }

    /// True if something was read that has to be fetched.
    pub fn lacks(&self) -> bool {
        self.ranges().is_some_and(RangeFile::lacks)
    }

    /// True for a file that has a path.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.backing, Backing::File { .. })
    }

    /// The path or label, as errors print it.
    pub fn label(&self) -> String {
        self.path.display().to_string()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The whole file, where no one else can change it.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.backing {
            Backing::Memory(bytes) => Some(bytes),
            Backing::File { .. } | Backing::Ranges(_) => None,
        }
    }

    /// The bytes of `range`, which the caller has checked to lie inside the file: of a mapped file,
    /// a slice of the map.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let held = match &self.backing {
            Backing::Memory(bytes) => bytes,
            Backing::File { map: Some(map), .. } => {
                self.unchanged()?;
                map
            }
            Backing::File { map: None, .. } => return self.copy(range),
            Backing::Ranges(file) => return file.read(range),
        };
        let slice = to_usize(range.start).zip(to_usize(range.end)).filter(|&(_, end)| end <= held.len());
        slice.map(|(start, end)| held.slice(start..end)).ok_or_else(|| self.short_read())
    }

    /// The bytes of `range`, which do not change if the file does: what is read more than once, as
    /// a header is, must not be mapped.
    pub fn copy(&self, range: Range<u64>) -> Result<Bytes> {
        if self.in_memory().is_some() {
            return self.read(range);
        }
        let mut out = Vec::new();
        self.append(&mut out, range)?;
        Ok(out.into())
    }

    /// Appends the bytes of `range` to `out`.
    pub fn append(&self, out: &mut Vec<u8>, range: Range<u64>) -> Result<()> {
        if let Backing::Ranges(file) = &self.backing {
            return file.append(out, range);
        }
        let Some(file) = self.unchanged()? else {
            out.extend_from_slice(&self.read(range)?);
            return Ok(());
        };
        let len = to_usize(range.end - range.start).ok_or_else(|| self.short_read())?;
        let held = out.len();
        out.resize(held + len, 0);
        read_exact_at(&file, &mut out[held..], range.start).map_err(Error::io("reading", &self.path))
    }

    /// The file, if there is one, as long as it was when it was opened: of a map beyond the end not
    /// a byte can be read.
    fn unchanged(&self) -> Result<Option<MutexGuard<'_, File>>> {
        let Backing::File { file, .. } = &self.backing else { return Ok(None) };
        let file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = file.metadata().map_err(Error::io("reading", &self.path))?.len();
        if now == self.len { Ok(Some(file)) } else { Err(changed(&self.path, self.len, now)) }
    }

    fn short_read(&self) -> Error {
        Error::io("reading", &self.path)(ErrorKind::UnexpectedEof.into())
    }
}

/// Opens a regular file; a pipe or a device has no length to check claims against, and may keep its
/// reader waiting.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let io = |e| Error::io("opening", path)(e);
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file")));
    }
    File::open(path).map_err(io)
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(out))
}

fn to_usize(value: u64) -> Option<usize> {
    usize::try_from(value).ok()
}

#[allow(unsafe_code)]
fn map(path: &Path, file: &File) -> Result<Bytes> {
    // SAFETY: the map is read-only and only ever seen as bytes, for which every value is valid;
    // headers, of which more is believed, are copied. If another process writes to the file
    // meanwhile, the numbers change; if it truncates the file while a slice is in use, the system
    // stops this process with a bus error. No map can exclude either; `OpenOptions::mmap` says so,
    // and
    // `--no-mmap` is for files that someone may change.
    let map = unsafe { memmap2::Mmap::map(file) };
    Ok(Bytes::from_owner(map.map_err(Error::io("mapping", path))?))
}
