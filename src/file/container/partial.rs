//! Files that are not whole yet. On Linux they have no name until they are, where the file system
//! can do that: then nothing is left of them, whatever stops the process. Elsewhere they have a
//! name that nobody looks for, and are removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
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
}

enum Bytes {
    #[cfg(target_os = "linux")]
    Nameless(File),
    /// Closed between the calls, as a process may have few files open.
    Named(TempPath, Listed),
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
pub(super) struct Plan {
    /// Its size, if it is known: the disk must have room for it.
    pub bytes: Option<u64>,
    /// Keep it open without a name, where the system can.
    pub nameless: bool,
}

impl Partial {
    /// Begins a file beside its target.
    pub fn begin(target: PathBuf, plan: Plan) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = Some(()).filter(|()| plan.nameless).and_then(|()| nameless(&target)) {
            reserve(&file, plan.bytes)?;
            return Ok(Self { target, bytes: Bytes::Nameless(file) });
        }
        let file = builder(&target).tempfile_in(folder(&target))?;
        let listed = Listed::new(file.path());
        reserve(file.as_file(), plan.bytes)?;
        Ok(Self { target, bytes: Bytes::Named(file.into_temp_path(), listed) })
    }

    /// The file, to be written.
    pub fn open(&self) -> io::Result<File> {
        match &self.bytes {
            #[cfg(target_os = "linux")]
            Bytes::Nameless(file) => file.try_clone(),
            Bytes::Named(path, _) => File::options().write(true).open(path),
        }
    }
}

/// All that there are take the names of their targets, or none does.
///
/// # Errors
/// The position of the first that could not, and why.
pub(super) fn appear(all: Vec<Option<Partial>>) -> Result<(), (usize, io::Error)> {
    // They outlive the lock, which they take when they are dropped.
    let mut listed = vec![];
    let mut named = named();
    let mut new = vec![];
    // The first file of several stands for all, and comes last.
    for (i, partial) in all.into_iter().enumerate().rev() {
        let Some(Partial { target, bytes }) = partial else { continue };
        let was_there = target.exists();
        let appeared = match bytes {
            #[cfg(target_os = "linux")]
            Bytes::Nameless(file) => give_name(file, &target),
            Bytes::Named(path, entry) => {
                named.remove(&entry.0);
                listed.push(entry);
                path.persist(&target).map_err(|e| e.error)
            }
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

/// A file in the folder of the target that has no name, and can get one.
#[cfg(target_os = "linux")]
fn nameless(target: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::PermissionsExt;
    let mode = Mode::from_raw_mode(permissions(target).mode());
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(folder(target), flags, mode).ok()?);
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
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
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
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: Option<u64>) -> io::Result<()> {
    Ok(())
}
