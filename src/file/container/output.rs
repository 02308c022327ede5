//! Output files appear whole or not at all: bytes go to a file that takes the target's name at the
//! end.

pub use super::partial::abandon;

use super::partial::{Partial, Plan, appear, folder};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Takes the bytes of an output, in order, and counts them.
pub struct Sink<'a> {
    path: &'a Path,
    to: BufWriter<&'a mut dyn Write>,
    written: u64,
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("path", &self.path)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl<'a> Sink<'a> {
    /// A sink over any stream; `path` is its name in errors.
    pub fn new(path: &'a Path, to: &'a mut dyn Write) -> Self {
        Self { path, to: BufWriter::with_capacity(1 << 20, to), written: 0 }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Output`] with the output's path.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes).map_err(Error::output("writing", self.path))
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
        self.to.flush().map_err(Error::output("writing", self.path))
    }
}

/// A file to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Its size, if it is known before: then a full disk shows before the work.
    pub bytes: Option<u64>,
    /// The folder of the same file system in which its bytes wait, if its own is made only later.
    pub waits_in: Option<&'a Path>,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for NewFile<'a> {
    /// A file in a folder that is there, of any size.
    fn from(path: &'a P) -> Self {
        Self { path: path.as_ref(), bytes: None, waits_in: None }
    }
}

/// Writes the file `path` with `fill`. Where that fails or stops, `path` is as it was before.
///
/// A device or a pipe cannot be replaced, so it is written directly.
///
/// # Errors
/// [`Error::Output`], or what `fill` returns.
pub fn write(path: &Path, fill: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    let mut fill = Some(fill);
    write_all(&[path.into()], |_, sink| fill.take().map_or(Ok(()), |fill| fill(sink)))
}

/// Writes several files, one after the other: all appear, or none. `fill` gets the position of the
/// file.
///
/// # Errors
/// As [`write()`].
pub fn write_all(
    files: &[NewFile<'_>],
    mut fill: impl FnMut(usize, &mut Sink<'_>) -> Result<()>,
) -> Result<()> {
    // All begin before the first is filled, so that what cannot be written shows before the work.
    let nameless = files.len() <= MOST_OPEN;
    let begun = files.iter().map(|file| begin(file, nameless)).collect::<Result<Vec<_>>>()?;
    for (i, (file, partial)) in files.iter().zip(&begun).enumerate() {
        let opened = match partial {
            Some(partial) => partial.open(),
            None => File::options().write(true).open(file.path),
        };
        let mut opened = opened.map_err(Error::output("opening", file.path))?;
        let mut sink = Sink::new(file.path, &mut opened);
        fill(i, &mut sink)?;
        sink.finish()?;
    }
    appear(begun).map_err(|(i, error)| Error::output("creating", files[i].path)(error))
}

/// Fails as [`write()`] would, as far as that shows before there is anything to write.
///
/// # Errors
/// [`Error::Output`].
pub fn probe(path: &Path) -> Result<()> {
    begin(&path.into(), true).map(drop)
}

/// Fails if no file can be made in a folder, or, where it is not there yet, in the nearest above
/// it.
///
/// # Errors
/// [`Error::Output`].
pub fn probe_folder(path: &Path) -> Result<()> {
    tempfile::tempfile_in(nearest_folder(path)).map(drop).map_err(Error::output("creating", path))
}

/// A folder, or where it is not there yet, the nearest above it.
pub(crate) fn nearest_folder(path: &Path) -> &Path {
    let there = path.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
    there.unwrap_or(Path::new("."))
}

/// Files that are kept open at a time; systems allow a process some hundreds.
const MOST_OPEN: usize = 128;

/// What becomes the file when it is whole; none for a device or a pipe.
fn begin(file: &NewFile<'_>, nameless: bool) -> Result<Option<Partial>> {
    let plan = Plan { bytes: file.bytes, waits_in: file.waits_in, nameless };
    let begin = |target| Partial::begin(target, plan);
    target(file.path)?.map(begin).transpose().map_err(Error::output("creating", file.path))
}

/// The file that is replaced, or made: a link stays a link. None for a device or a pipe.
fn target(path: &Path) -> Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(Error::output("creating", path)(ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => Ok(None),
        Ok(_) => fs::canonicalize(path).map(Some).map_err(Error::output("creating", path)),
        // Devices of Windows, as `NUL` in any folder: there is nothing to know about them, but they
        // can be written.
        Err(_) if File::options().write(true).open(path).is_ok() => Ok(None),
        Err(error) => match followed(path) {
            circle if circle.is_symlink() => Err(Error::output("creating", path)(error)),
            target => Ok(Some(target)),
        },
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
pub fn refuse_input<'a>(path: &Path, mut files: impl Iterator<Item = &'a Path>) -> Result<()> {
    match files.find(|file| same_file(file, path)) {
        None => Ok(()),
        Some(file) => Err(Error::Argument(format!(
            "{}: it would replace {}, which is being read",
            path.display(),
            file.display()
        ))),
    }
}

/// Where a link leads to that leads to no file yet; a link again where links go round in a circle.
fn followed(path: &Path) -> PathBuf {
    // As many as Linux follows.
    (0..40)
        .fold(path.into(), |at: PathBuf, _| fs::read_link(&at).map_or(at.clone(), |to| folder(&at).join(to)))
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
        write(dir.path(), |_| panic!("an hour of work")).unwrap_err();
        assert!(probe(&dir.path().join("no/y.bin")).unwrap_err().to_string().contains("y.bin"));
        probe_folder(dir.path()).unwrap();
        probe_folder(&dir.path().join("no/folder")).unwrap();
        assert!(matches!(probe_folder(&path.join("below/a/file")), Err(Error::Output { .. })));
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
        fs::remove_file(&file).unwrap();
        write(&link, |sink| sink.put(b"newer")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"newer");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "it led nowhere before");
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        write(&circle, |sink| sink.put(b"new")).unwrap_err();
        assert!(fs::symlink_metadata(&circle).unwrap().is_symlink());
        write(Path::new("/dev/null"), |sink| sink.put(b"new")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[cfg(windows)]
    #[test]
    fn the_null_device_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["NUL".into(), r"\\.\NUL".into(), dir.path().join("NUL")] {
            probe(&path).unwrap();
            write(&path, |sink| sink.put(b"new")).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
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
    fn a_name_may_be_as_long_as_names_can_be() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("n".repeat(255)), |sink| sink.put(b"new")).unwrap();
    }

    #[test]
    fn errors_name_the_output() {
        let error = write(Path::new("/nonexistent/y.bin"), |_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("creating `/nonexistent/y.bin`"), "{error}");
    }
}
