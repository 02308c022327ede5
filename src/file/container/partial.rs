//! Files that are not whole yet. On Linux they have no name until they are, where the file system
//! can do that: then nothing is left of them, whatever stops the process. Elsewhere they have a
//! name that nobody looks for, and are removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempPath;

/// Those with a name.
static NAMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn named() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all outputs of this process that are not whole: for one that a signal is about to end.
/// From now on none appears, and whoever would write one waits for the end.
pub fn abandon() {
    let named = named();
    // One that cannot be removed stays, since the process ends in any case.
    named.iter().for_each(|path| drop(fs::remove_file(path)));
    std::mem::forget(named);
}

/// A file that will take its target's name.
pub(super) struct Partial {
    target: PathBuf,
    bytes: Bytes,
    listed: Option<Listed>,
}

enum Bytes {
    #[cfg(target_os = "linux")]
    Nameless(File),
    /// Closed between the calls, as a process may have few files open.
    Named(TempPath),
}

/// A path in [`NAMED`].
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        named().insert(path.into());
        Self(path.into())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        named().remove(&self.0);
    }
}

/// What a file should be like.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    /// Its size, if it is known: the disk must have room for it.
    pub bytes: Option<u64>,
    /// Where it waits, if the target's folder is made only later.
    pub waits_in: Option<&'a Path>,
    /// Keep it open without a name, where the system can.
    pub nameless: bool,
}

impl Partial {
    /// Begins a file beside its target.
    pub fn begin(target: PathBuf, plan: Plan<'_>) -> io::Result<Self> {
        let waits_in = plan.waits_in.unwrap_or_else(|| folder(&target));
        #[cfg(not(target_os = "linux"))]
        let _ = plan.nameless;
        #[cfg(target_os = "linux")]
        if plan.nameless
            && let Some(file) = nameless(waits_in, &target)
        {
            reserve(&file, plan.bytes)?;
            return Ok(Self { target, bytes: Bytes::Nameless(file), listed: None });
        }
        let file = builder(&target).tempfile_in(waits_in)?;
        let listed = Listed::new(file.path());
        reserve(file.as_file(), plan.bytes)?;
        Ok(Self { target, bytes: Bytes::Named(file.into_temp_path()), listed: Some(listed) })
    }

    /// The file, to be written.
    pub fn open(&self) -> io::Result<File> {
        match &self.bytes {
            #[cfg(target_os = "linux")]
            Bytes::Nameless(file) => file.try_clone(),
            Bytes::Named(path) => File::options().write(true).open(path),
        }
    }
}

/// All that there are take the names of their targets, or none does.
///
/// # Errors
/// The position of the first that could not, and why.
pub(super) fn appear(all: Vec<Option<Partial>>) -> Result<(), (usize, io::Error)> {
    let (mut whole, mut listed) = (vec![], vec![]);
    for (i, partial) in all.into_iter().enumerate() {
        if let Some(Partial { target, bytes, listed: entry }) = partial {
            whole.push((i, target, bytes));
            listed.push(entry);
        }
    }
    // What is listed outlives the lock, which it takes when it is dropped.
    let _lock = named();
    let mut new = vec![];
    // The first file of several stands for all, and comes last.
    for (i, target, bytes) in whole.into_iter().rev() {
        let was_there = target.exists();
        let appeared = match bytes {
            #[cfg(target_os = "linux")]
            Bytes::Nameless(file) => give_name(file, &target),
            Bytes::Named(path) => path.persist(&target).map_err(|e| e.error),
        };
        match appeared {
            Ok(()) if was_there => {}
            Ok(()) => new.push(target),
            Err(error) => {
                // What cannot be removed either is whole, at least.
                new.iter().for_each(|path| drop(fs::remove_file(path)));
                return Err((i, error));
            }
        }
    }
    Ok(())
}

/// The folder that a file lies in.
pub(super) fn folder(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn builder(target: &Path) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    // Short, since the target's name may be as long as names can be.
    builder.prefix(".qmatmul-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(permissions(target));
    #[cfg(not(unix))]
    let _ = target;
    builder
}

/// Those of the file that is replaced, or what any new file gets: temporary files are private by
/// default.
#[cfg(unix)]
fn permissions(target: &Path) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(target).map_or(fs::Permissions::from_mode(0o666), |meta| meta.permissions())
}

/// A file in a folder that has no name, and can get the target's.
#[cfg(target_os = "linux")]
fn nameless(waits_in: &Path, target: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::PermissionsExt;
    let mode = Mode::from_raw_mode(permissions(target).mode());
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(waits_in, flags, mode).ok()?);
    fs::symlink_metadata(descriptor(&file)).is_ok().then_some(file)
}

/// The path by which the system knows an open file.
#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(target_os = "linux")]
fn link(file: &File, to: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor(file), CWD, to, AtFlags::SYMLINK_FOLLOW)?)
}

/// A link replaces no file: where one is, another name is renamed. Where the file system makes no
/// link either, the bytes are copied.
#[cfg(target_os = "linux")]
fn give_name(mut file: File, target: &Path) -> io::Result<()> {
    use std::io::Seek;
    match link(&file, target) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let linked = builder(target).make_in(folder(target), |path| link(&file, path))?;
            return linked.into_temp_path().persist(target).map_err(|e| e.error);
        }
        Err(_) => {}
    }
    let mut copy = builder(target).tempfile_in(folder(target))?;
    file.rewind()?;
    io::copy(&mut file, copy.as_file_mut())?;
    copy.persist(target).map(drop).map_err(|e| e.error)
}

/// Makes sure that the disk has room for so many bytes, as far as the file system can say so.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: Option<u64>) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else { return Ok(()) };
    let Err(error) = fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) else { return Ok(()) };
    let error = io::Error::from(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: Option<u64>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// With a name and without one: all appear with their bytes, or none does and nothing is left.
    #[test]
    fn all_appear_or_none() {
        for nameless in [true, false] {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let names = ["a", "b", "c"].map(|name| dir.path().join(name));
            let write = || {
                let begin = |name: &PathBuf| {
                    let partial =
                        Partial::begin(name.clone(), Plan { bytes: Some(3), waits_in: None, nameless })
                            .expect("begun");
                    partial.open().expect("open").write_all(b"new").expect("room");
                    Some(partial)
                };
                appear(names.iter().map(begin).collect())
            };
            fs::write(&names[1], b"old").expect("a new file");
            write().expect("all can appear");
            assert!(names.iter().all(|name| fs::read(name).expect("there") == b"new"), "{nameless}");
            names.iter().for_each(|name| fs::remove_file(name).expect("there"));
            fs::create_dir(&names[0]).expect("a new folder");
            let (at, _) = write().expect_err("a folder is in the way");
            assert_eq!((at, fs::read_dir(dir.path()).expect("there").count()), (0, 1), "{nameless}");
        }
    }

    /// A file waits in one folder for another, which is made before it appears.
    #[test]
    fn a_folder_may_come_last() {
        for nameless in [true, false] {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let target = dir.path().join("new/a");
            let plan = Plan { bytes: None, waits_in: Some(dir.path()), nameless };
            let partial = Partial::begin(target.clone(), plan).expect("begun");
            partial.open().expect("open").write_all(b"new").expect("room");
            assert!(!dir.path().join("new").exists());
            fs::create_dir(dir.path().join("new")).expect("a new folder");
            appear(vec![Some(partial)]).expect("it appears");
            assert_eq!(fs::read(target).expect("there"), b"new", "{nameless}");
        }
    }

    #[test]
    fn what_has_a_name_is_listed_until_it_appears() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let is_listed = || named().iter().any(|path| path.starts_with(dir.path()));
        let begin = || {
            Partial::begin(dir.path().join("a"), Plan { bytes: None, waits_in: None, nameless: false })
                .expect("begun")
        };
        let partial = begin();
        assert!(is_listed());
        appear(vec![Some(partial)]).expect("it appears");
        assert!(!is_listed());
        drop(begin());
        assert!(!is_listed());
    }
}
