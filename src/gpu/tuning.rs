//! Which kernel is the fastest on this adapter: measured once for a class of requests, and kept in
//! a file.

use super::adapters::AdapterSummary;
use super::capability::Capability;
use super::host::cache_folder;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::kernel::{Caps, Preferences, Problem, Tuned};
use serde::{Deserialize, Serialize};
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where measured choices are kept.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum TuningCache {
    /// Nowhere, and none are used: a fixed table decides.
    Off,
    /// In the file of this adapter and driver in the user's cache folder.
    #[default]
    Disk,
    /// In files of this folder.
    Folder(PathBuf),
}

/// The choices of one adapter and driver.
pub struct Tuning {
    /// Programs that are being planned keep the table that they began with.
    table: Mutex<Arc<Preferences>>,
    path: Option<PathBuf>,
    header: Header,
    off: bool,
}

/// What choices are good for: another driver, another version or other switches may rank kernels
/// differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    qmatmul: String,
    adapter: String,
    backend: String,
    driver: String,
    /// Under DirectX 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compiler: Option<String>,
    /// What the device has of each [`Capability`], by name.
    #[serde(flatten)]
    caps: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(flatten)]
    header: Header,
    choices: Vec<Tuned>,
}

impl Tuning {
    /// The choices that a file holds. A file that cannot be read, or is of another driver or
    /// version, is as good as none.
    pub(super) fn open(adapter: &AdapterSummary, caps: &Caps, cache: &TuningCache) -> Self {
        let header = Header {
            qmatmul: env!("CARGO_PKG_VERSION").into(),
            adapter: adapter.name.clone(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            compiler: adapter.compiler.as_ref().map(|c| c.name.to_owned()),
            caps: Capability::ALL.iter().map(|c| (c.name().into(), c.value(caps))).collect(),
        };
        let off = *cache == TuningCache::Off;
        let folder = match cache {
            TuningCache::Off => None,
            TuningCache::Disk => cache_folder(),
            TuningCache::Folder(folder) => Some(folder.clone()),
        };
        let path = folder.map(|folder| folder.join(file_name(&header, caps)));
        let table = path.as_deref().map(|path| read(path, &header)).unwrap_or_default();
        Self { table: Mutex::new(Arc::new(table)), path, header, off }
    }

    /// What was measured so far.
    pub(super) fn preferences(&self) -> Arc<Preferences> {
        if self.off { Arc::default() } else { self.lock().clone() }
    }

    /// The kernel and variant that were measured to be the fastest for problems like this.
    pub fn get(&self, format: &Format, problem: &Problem) -> Option<String> {
        self.preferences().get(format, problem).map(str::to_owned)
    }

    /// All choices.
    pub fn list(&self) -> Vec<Tuned> {
        self.lock().list()
    }

    /// The file of the choices, if they are kept in one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Prefers a kernel from now on, and writes the file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn set(&self, tuned: Tuned) -> Result<()> {
        let measured = tuned.clone();
        Arc::make_mut(&mut self.lock()).set(tuned);
        let Some(path) = &self.path else { return Ok(()) };
        let folder = path.parent().expect("the path was made by join");
        std::fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
        let _alone = locked(&folder.join("tuning.lock"));
        // What other processes have measured since this one read the file is newer than what is
        // remembered here.
        let newer = read(path, &self.header);
        let mut table = self.lock();
        let all = Arc::make_mut(&mut table);
        newer.list().into_iter().chain([measured]).for_each(|choice| all.set(choice));
        let file = File { header: self.header.clone(), choices: all.list() };
        let text = serde_json::to_string_pretty(&file).expect("plain data");
        crate::file::container::output::write(path, |sink| sink.put(text.as_bytes()))
    }

    /// Prefers what `other` does, if it is for the same device: the choices as they are in memory,
    /// whatever the file says now.
    pub(super) fn take_over(&self, other: &Self) {
        if self.header == other.header {
            let choices = other.lock().clone();
            *self.lock() = choices;
        }
    }

    /// Forgets all choices, and removes the file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        *self.lock() = Arc::default();
        match self.path.as_ref().map(|path| (path, std::fs::remove_file(path))) {
            Some((path, Err(e))) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("removing", path)(e))
            }
            _ => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Preferences>> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How often a lock that others have is asked for, a hundredth of a second apart.
const TRIES: usize = 200;

/// One process at a time reads and writes choices, as long as this is held. Not every file system
/// has locks, and who has one may never give it back: what is lost then is a measurement.
fn locked(path: &Path) -> Option<std::fs::File> {
    let mut options = std::fs::File::options();
    // Another user's can be read at least, which is enough to lock it.
    let file = options.create(true).append(true).open(path).or_else(|_| std::fs::File::open(path)).ok()?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => {
                log::debug!("{}: {error}", path.display());
                return None;
            }
        }
    }
    None
}

/// The choices in a file; none if there is no such file or it is good for another device.
fn read(path: &Path, header: &Header) -> Preferences {
    let file: Option<File> = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let choices = file.filter(|file| file.header == *header).map(|file| file.choices).unwrap_or_default();
    choices.into_iter().collect()
}

/// `tuning-shidc-vulkan-llvmpipe-llvm-15-0-6-256-bits-<driver>.json`: letters and digits of what
/// the choices depend on.
fn file_name(header: &Header, caps: &Caps) -> String {
    let switches: String = Capability::ALL.iter().filter(|c| c.is_in(caps)).map(|c| c.letter()).collect();
    // What is short comes first: names of drivers have no end.
    let compiler = header.compiler.as_deref().unwrap_or_default();
    let backend = format!("{} {compiler}", header.backend);
    let text = format!("{switches} {} {} {}", backend.trim(), header.adapter, header.driver).to_lowercase();
    let mut slug: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    slug.truncate(160);
    format!("tuning-{slug}.json")
}

impl std::fmt::Debug for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tuning").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapters::tests::adapter;

    fn summary() -> AdapterSummary {
        let (kind, driver) = ("Cpu".into(), "llvmpipe Mesa 22.3.6".into());
        AdapterSummary { kind, driver, ..adapter("llvmpipe (LLVM 15.0.6, 256 bits)", "Vulkan") }
    }

    /// Files that are there already are found and read: their names and keys stay.
    #[test]
    fn files_say_what_the_device_can_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = TuningCache::Folder(folder.path().into());
        let open = |caps: &Caps| Tuning::open(&summary(), caps, &cache);
        let name = |caps: &Caps| open(caps).path().expect("a file").display().to_string();
        let mut caps = Caps { subgroup: Some((8, 8)), cooperative: Some(8), ..Caps::everything() };
        assert!(name(&caps).contains("tuning-shidc"), "{}", name(&caps));
        Capability::F16.take_out(&mut caps);
        assert!(name(&caps).contains("tuning-sid"), "{}", name(&caps));
        assert!(name(&caps).ends_with("-vulkan-llvmpipe--llvm-15-0-6--256-bits--llvmpipe-mesa-22-3-6.json"));
        let q4_0 = crate::format::by_name("Q4_0").expect("a format");
        let choice = Tuned { kernel: "gemv:4x64".into(), ..Tuned::class(q4_0, &Problem::default()) };
        open(&caps).set(choice.clone()).expect("writable");
        assert_eq!(open(&caps).list(), [choice]);
        let text = std::fs::read(name(&caps)).expect("written");
        let file: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let keys = ["subgroup", "f16", "int64", "int_dot", "cooperative"];
        let want = serde_json::json!([[8, 8], false, true, true, null]);
        assert_eq!(serde_json::json!(keys.map(|key| file.get(key))), want);
        // The same letters, other sizes.
        assert!(open(&Caps { subgroup: Some((4, 4)), ..caps }).list().is_empty());
    }
}
