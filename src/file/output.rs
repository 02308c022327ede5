//! Output files appear whole or not at all: bytes go to a temporary file beside the target, which takes its name at
//! the end.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Takes the bytes of an output, in order, and counts them.
pub struct Sink<'a> {
    path: &'a Path,
    to: BufWriter<&'a mut dyn Write>,
    written: u64,
}

impl<'a> Sink<'a> {
    /// A sink over any stream; `path` is its name in errors.
    pub fn new(path: &'a Path, to: &'a mut dyn Write) -> Self {
        Self { path, to: BufWriter::with_capacity(1 << 20, to), written: 0 }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`] with the output's path.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes).map_err(Error::io("writing", self.path))
    }

    /// Appends zeros up to a multiple of `alignment` bytes.
    ///
    /// # Errors
    /// As [`Sink::put`].
    pub fn pad(&mut self, alignment: u64) -> Result<()> {
        let mut missing = self.written.next_multiple_of(alignment) - self.written;
        while missing > 0 {
            let step = missing.min(4096);
            self.put(&[0; 4096][..step as usize])?;
            missing -= step;
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Hands the last bytes to the system.
    ///
    /// # Errors
    /// As [`Sink::put`].
    pub fn finish(mut self) -> Result<()> {
        self.to.flush().map_err(Error::io("writing", self.path))
    }
}

/// Writes the file `path` with `fill`. Where that fails or stops, `path` is as it was before.
///
/// A device or a pipe cannot be replaced, so it is written directly.
///
/// # Errors
/// [`Error::Io`], or what `fill` returns.
pub fn write(path: &Path, fill: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    // A link stays a link: the file that it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    match fs::metadata(&target) {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => {
            let mut file = File::options().write(true).open(&target).map_err(Error::io("opening", path))?;
            fill_from(path, &mut file, fill)
        }
        _ => replace(path, &target, fill),
    }
}

/// Fails as [`write`] would, as far as that shows before there is anything to write.
///
/// # Errors
/// [`Error::Io`].
pub fn probe(path: &Path) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    match fs::metadata(&target) {
        Ok(meta) if meta.is_dir() => Err(Error::io("creating", path)(ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => Ok(()),
        _ => temporary(path, &target).map(drop),
    }
}

/// True if both are there and the same, by links or not.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}

/// Refuses to write `path` if it is one of `files`, which are being read.
///
/// # Errors
/// [`Error::Argument`] with both.
pub(crate) fn refuse_input<'a>(path: &Path, mut files: impl Iterator<Item = &'a Path>) -> Result<()> {
    match files.find(|file| same_file(file, path)) {
        None => Ok(()),
        Some(file) => Err(Error::Argument(format!(
            "{}: it would replace {}, which is being read",
            path.display(),
            file.display()
        ))),
    }
}

fn replace(path: &Path, target: &Path, fill: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    let mut temporary = temporary(path, target)?;
    fill_from(path, temporary.as_file_mut(), fill)?;
    temporary.persist(target).map(drop).map_err(|e| Error::io("creating", path)(e.error))
}

/// A file beside the target that takes its name when it is persisted.
fn temporary(path: &Path, target: &Path) -> Result<NamedTempFile> {
    let mut name = PathBuf::from(".");
    name.as_mut_os_string().push(target.file_name().unwrap_or_default());
    let mut builder = tempfile::Builder::new();
    builder.prefix(name.as_os_str()).suffix(".partial");
    #[cfg(unix)]
    builder.permissions(permissions(target));
    builder.tempfile_in(folder(target)).map_err(Error::io("creating", path))
}

fn fill_from(path: &Path, file: &mut File, fill: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    let mut sink = Sink::new(path, file);
    fill(&mut sink)?;
    sink.finish()
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Those of the file that is replaced, or what any new file gets: temporary files are private by default.
#[cfg(unix)]
fn permissions(target: &Path) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(target).map_or(fs::Permissions::from_mode(0o666), |meta| meta.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.bin");
        write(&path, |sink| sink.put(b"old")).unwrap();
        let failed = write(&path, |sink| {
            sink.put(&vec![1; 3 << 20])?;
            Err(Error::Argument("stop".into()))
        });
        assert!(matches!(failed, Err(Error::Argument(_))));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_target_is_absent_while_it_is_written_and_whole_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.bin");
        write(&path, |sink| {
            sink.put(b"abc")?;
            assert!(!path.exists());
            sink.pad(8)?;
            assert_eq!(sink.written(), 8);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc\0\0\0\0\0");
    }

    #[test]
    fn what_cannot_be_written_is_found_out_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.bin");
        probe(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        fs::write(&path, b"old").unwrap();
        probe(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(probe(dir.path()).is_err(), "a folder");
        assert!(probe(&dir.path().join("no/y.bin")).unwrap_err().to_string().contains("y.bin"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_survive() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, |sink| sink.put(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write(Path::new("/dev/null"), |sink| sink.put(b"new")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[cfg(unix)]
    #[test]
    fn the_same_file_has_many_names() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, other] = ["file", "link", "other"].map(|name| dir.path().join(name));
        fs::write(&file, b"").unwrap();
        fs::write(&other, b"").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(same_file(&file, &link) && same_file(&file, &dir.path().join("./file")));
        assert!(!same_file(&file, &other) && !same_file(&file, &dir.path().join("none")));
    }

    #[test]
    fn errors_name_the_output() {
        let error = write(Path::new("/nonexistent/y.bin"), |_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("creating `/nonexistent/y.bin`"), "{error}");
    }
}
