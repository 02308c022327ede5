//! Where the files of a checkpoint lie beside each other: a folder of the disk, memory, or ranges.

use crate::error::{Error, Result};
use crate::file::container::ranges::RangeFile;
use crate::file::container::source::{OpenOptions, Source, open_regular};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Files by name. What opens a checkpoint sees no difference between them.
#[derive(Clone, Debug)]
pub(crate) enum Folder<'a> {
    Disk { path: PathBuf, options: OpenOptions },
    Memory { label: &'a Path, files: &'a [(&'a str, Bytes)] },
    Ranges { label: &'a Path, files: &'a [RangeFile] },
}

impl<'a> Folder<'a> {
    pub fn on_disk(path: &Path, options: &OpenOptions) -> Self {
        Self::Disk { path: path.into(), options: *options }
    }

    pub fn in_memory(label: &'a Path, files: &'a [(&'a str, Bytes)]) -> Self {
        Self::Memory { label, files }
    }

    /// The folder, or the label that stands for it.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk { path, .. } => path,
            Self::Memory { label, .. } | Self::Ranges { label, .. } => label,
        }
    }

    /// A file's path, as errors print it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = match self {
            Self::Disk { path, .. } => fs::read_dir(path)
                .map_err(Error::io("reading", path))?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect(),
            Self::Memory { files, .. } => files.iter().map(|(name, _)| (*name).into()).collect(),
            Self::Ranges { files, .. } => files.iter().map(|file| file.name().into()).collect(),
        };
        names.sort_unstable();
        Ok(names)
    }

    /// True if there is a file of this name.
    pub fn has(&self, name: impl AsRef<Path>) -> bool {
        match self {
            Self::Disk { path, .. } => path.join(name).is_file(),
            Self::Memory { .. } => self.held(name.as_ref()).is_some(),
            Self::Ranges { .. } => self.by_ranges(name.as_ref()).is_some(),
        }
    }

    /// True if there is a file of this name, false if there is nothing.
    ///
    /// # Errors
    /// If there is something else, as a link that leads nowhere: it cannot be read, but it is
    /// there.
    pub fn has_or_lacks(&self, name: &str) -> Result<bool> {
        let path = self.join(name);
        let is_absent = || fs::symlink_metadata(&path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        if !matches!(self, Self::Disk { .. }) || self.has(name) || is_absent() {
            return Ok(self.has(name));
        }
        fs::metadata(&path).map_err(Error::io("opening", &path))?;
        Err(malformed(&path, "file", 0, "it is no regular file".into()))
    }

    /// A file of tensors.
    pub fn source(&self, name: impl AsRef<Path>) -> Result<Source> {
        let path = self.join(&name);
        match self {
            Self::Disk { options, .. } => Source::open(&path, options.mmap),
            Self::Memory { .. } => match self.held(name.as_ref()) {
                Some(bytes) => Ok(Source::from_bytes(&path, bytes.clone())),
                None => Err(Error::io("opening", path)(ErrorKind::NotFound.into())),
            },
            Self::Ranges { .. } => match self.by_ranges(name.as_ref()) {
                Some(file) => Ok(Source::from_ranges(file.clone())),
                None => Err(Error::io("opening", path)(ErrorKind::NotFound.into())),
            },
        }
    }

    /// The text of a file of at most `limit` bytes.
    pub fn text(&self, name: impl AsRef<Path>, limit: u64) -> Result<String> {
        let path = self.join(&name);
        if let Some(file) = self.by_ranges(name.as_ref()) {
            return as_text(&path, file.read(0..file.len().min(limit + 1))?.to_vec(), limit);
        }
        match (self, self.held(name.as_ref())) {
            (Self::Disk { .. }, _) => read_text(&path, open_regular(&path)?, limit),
            (_, Some(bytes)) => as_text(&path, bytes[..bytes.len().min(limit as usize + 1)].to_vec(), limit),
            (_, None) => Err(Error::io("opening", path)(ErrorKind::NotFound.into())),
        }
    }

    /// True if something was read that has to be fetched.
    pub fn lacks(&self) -> bool {
        matches!(self, Self::Ranges { files, .. } if files.iter().any(RangeFile::lacks))
    }

    fn by_ranges(&self, name: &Path) -> Option<&'a RangeFile> {
        match self {
            Self::Disk { .. } | Self::Memory { .. } => None,
            Self::Ranges { files, .. } => files.iter().find(|file| Path::new(file.name()) == name),
        }
    }

    fn held(&self, name: &Path) -> Option<&'a Bytes> {
        match self {
            Self::Disk { .. } | Self::Ranges { .. } => None,
            Self::Memory { files, .. } => {
                files.iter().find(|(other, _)| Path::new(other) == name).map(|(_, bytes)| bytes)
            }
        }
    }
}

/// The longest text that is fetched for a look into it that may never come: a `tokenizer.json` is
/// longer.
const MAX_BESIDE: u64 = 1 << 20;

/// A folder that is looked into long after what lies in it was opened, and then as far as it can
/// be.
#[derive(Debug)]
pub(crate) enum Beside {
    /// What lies there when it is looked into.
    Disk(PathBuf),
    /// Files by name, as far as they are held.
    Memory(Vec<(String, Option<Bytes>)>),
}

impl Beside {
    /// Of a folder in memory the small files: all but those that hold tensors. Of one by ranges the
    /// texts of [`MAX_BESIDE`] bytes at most, and the names of the others.
    pub fn of(folder: &Folder) -> Self {
        match folder {
            Folder::Disk { path, .. } => Self::Disk(path.clone()),
            Folder::Memory { files, .. } => {
                let others = files.iter().filter(|(name, _)| !name.ends_with(".safetensors"));
                Self::Memory(others.map(|(name, bytes)| ((*name).into(), Some(bytes.clone()))).collect())
            }
            Folder::Ranges { files, .. } => {
                let others = files.iter().filter(|file| !file.name().ends_with(".safetensors"));
                let small = |file: &RangeFile| {
                    let is_text = [".json", ".md"].iter().any(|end| file.name().ends_with(end));
                    (is_text && file.len() <= MAX_BESIDE).then(|| file.read(0..file.len()).ok())?
                };
                Self::Memory(others.map(|file| (file.name().into(), small(file))).collect())
            }
        }
    }

    /// True if there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Disk(path) => path.join(name).is_file(),
            Self::Memory(files) => files.iter().any(|(other, _)| other == name),
        }
    }

    /// The text of a file of at most `limit` bytes; `None` where there is none that can be read.
    pub fn text(&self, name: &str, limit: u64) -> Option<String> {
        match self {
            Self::Disk(path) if self.has(name) => {
                let path = path.join(name);
                read_text(&path, open_regular(&path).ok()?, limit).ok()
            }
            Self::Disk(_) => None,
            Self::Memory(files) => {
                let (_, bytes) = files.iter().find(|(other, _)| other == name)?;
                let bytes = bytes.as_ref().filter(|bytes| bytes.len() as u64 <= limit)?;
                String::from_utf8(bytes.to_vec()).ok()
            }
        }
    }
}

/// The text that an open file holds, of at most so many bytes.
///
/// # Errors
/// [`Error::Io`], [`Error::Malformed`] for longer ones and what is no text.
pub fn read_text(path: &Path, file: File, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    as_text(path, bytes, limit)
}

fn as_text(path: &Path, bytes: Vec<u8>, limit: u64) -> Result<String> {
    if bytes.len() as u64 > limit {
        return Err(malformed(path, "file", limit, format!("it is longer than {limit} bytes")));
    }
    String::from_utf8(bytes)
        .map_err(|e| malformed(path, "file", e.utf8_error().valid_up_to() as u64, "it is not UTF-8".into()))
}

/// Something that is wrong with a part of a file.
pub(crate) fn malformed(path: &Path, what: &str, offset: u64, problem: String) -> Error {
    Error::Malformed { file: path.display().to_string(), what: what.into(), offset, problem }
}
