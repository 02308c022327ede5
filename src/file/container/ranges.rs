//! Files that are neither on this machine's disk nor in its memory: a browser's, a server's. What is
//! asked for is fetched first, and read then as from any other file.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes of a range, later.
pub type RangeFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + 'a>>;

/// A file of which parts can be fetched: slices of a browser's `Blob`, ranges of HTTP, objects of a
/// store.
///
/// ```
/// use qmatmul::file::{ByteRanges, Model, RangeFuture};
/// use std::{fs::File, io::{Read, Seek, SeekFrom}, ops::Range, sync::Arc};
///
/// struct OnDisk(std::path::PathBuf);
///
/// impl ByteRanges for OnDisk {
///     fn size(&self) -> u64 {
///         std::fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
///     }
///
///     fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
///         Box::pin(async move {
///             let mut file = File::open(&self.0)?;
///             file.seek(SeekFrom::Start(range.start))?;
///             let mut bytes = vec![];
///             file.take(range.end - range.start).read_to_end(&mut bytes)?;
///             Ok(bytes.into())
///         })
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # pollster::block_on(async {
/// let file = Arc::new(OnDisk("tests/data/storybook-3.7M-Q4_0.gguf".into()));
/// let model = Model::open_ranges("storybook", &[("model.gguf", file)]).await?;
/// let weight = model.tensor_async(model.find("blk.0.attn_q")?).await?; // 36 KiB are read
/// assert_eq!((weight.rows(), weight.cols()), (256, 256));
/// # Ok(())
/// # })
/// # }
/// ```
pub trait ByteRanges: Send + Sync {
    /// Bytes of the whole file. It does not change.
    fn size(&self) -> u64;

    /// The bytes of `range`, which lies within the file and is not empty.
    ///
    /// # Errors
    /// Whatever keeps them from being read, in words for the user.
    fn read(&self, range: Range<u64>) -> RangeFuture<'_>;
}

impl<T: ByteRanges + ?Sized> ByteRanges for Arc<T> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        (**self).read(range)
    }
}

/// What was fetched of such a file.
pub(crate) struct Fetched {
    file: Arc<dyn ByteRanges>,
    size: u64,
    state: Mutex<State>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("size", &self.size).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Parts by where they start. None begins in another.
    parts: Vec<(u64, Bytes)>,
    /// What was asked for and is not there.
    missing: Option<Range<u64>>,
}

/// How much is fetched at a time.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Amount {
    /// What is asked for and more: a header is asked for piece by piece. Twice as much each time
    /// that it goes on.
    Header,
    /// What is asked for.
    Exactly,
}

/// Bytes of a header that are fetched at least.
const LEAST: u64 = 256 << 10;

impl Fetched {
    pub fn new(file: Arc<dyn ByteRanges>) -> Self {
        let size = file.size();
        Self { file, size, state: Mutex::default() }
    }

    /// The same file with nothing fetched.
    pub fn anew(&self) -> Self {
        Self { file: self.file.clone(), size: self.size, state: Mutex::default() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Forgets what was fetched.
    pub fn forget(&self) {
        *self.lock() = State::default();
    }

    /// The bytes of `range` if they are there. If not, [`Fetched::missing`] tells of it.
    pub fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let mut state = self.lock();
        let found = state.get(range);
        if found.is_none() {
            state.missing = Some(range.clone());
        }
        found
    }

    /// What was asked for last and is not there, once.
    pub fn missing(&self) -> Option<Range<u64>> {
        self.lock().missing.take()
    }

    /// Fetches what of `range` is not there.
    ///
    /// # Errors
    /// [`Error::Io`] of the file, [`Error::Malformed`] if it gives another number of bytes.
    pub async fn fetch(&self, path: &Path, range: Range<u64>, amount: Amount) -> Result<()> {
        for missing in self.gaps(&range, amount) {
            let bytes = self.file.read(missing.clone()).await.map_err(Error::io("reading", path))?;
            let wanted = missing.end - missing.start;
            if bytes.len() as u64 != wanted {
                let problem = format!(
                    "{wanted} bytes were asked for, {} came: it has changed since it was opened with {} bytes, \
                     or its source is faulty",
                    bytes.len(),
                    self.size
                );
                let file = path.display().to_string();
                return Err(Error::Malformed { file, what: "file".into(), offset: missing.start, problem });
            }
            self.lock().put(missing.start, bytes);
        }
        Ok(())
    }

    /// What is to be fetched for `range`.
    fn gaps(&self, range: &Range<u64>, amount: Amount) -> Vec<Range<u64>> {
        let state = self.lock();
        let end = match amount {
            Amount::Exactly => range.end,
            Amount::Header => {
                let before =
                    state.parts.iter().find(|(start, part)| start + part.len() as u64 == range.start);
                let more = before.map_or(LEAST, |_| LEAST.max(range.start));
                range.end.max(range.start.saturating_add(more)).min(self.size)
            }
        };
        let mut gaps = vec![];
        let mut at = range.start;
        for (start, part) in &state.parts {
            let part_end = start + part.len() as u64;
            if part_end <= at || *start >= end {
                continue;
            }
            if at < *start {
                gaps.push(at..*start);
            }
            at = part_end;
        }
        if at < end {
            gaps.push(at..end);
        }
        gaps
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let first = self
            .parts
            .iter()
            .position(|(start, part)| (*start..start + part.len() as u64).contains(&range.start))?;
        let within = |start: u64, part: &Bytes| {
            let from = range.start.max(start) - start;
            let to = range.end.min(start + part.len() as u64) - start;
            part.slice(from as usize..to as usize)
        };
        let (start, part) = &self.parts[first];
        if range.end <= start + part.len() as u64 {
            return Some(within(*start, part));
        }
        let mut all = Vec::with_capacity(usize::try_from(range.end - range.start).ok()?);
        for (start, part) in &self.parts[first..] {
            let at = range.start + all.len() as u64;
            if at == range.end || !(*start..start + part.len() as u64).contains(&at) {
                break;
            }
            all.extend_from_slice(&within(*start, part));
        }
        (all.len() as u64 == range.end - range.start).then(|| all.into())
    }

    fn put(&mut self, start: u64, bytes: Bytes) {
        let at = self.parts.partition_point(|(other, _)| *other < start);
        self.parts.insert(at, (start, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(u64);

    impl ByteRanges for Numbers {
        fn size(&self) -> u64 {
            self.0
        }

        fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
            Box::pin(async move { Ok(range.map(|at| (at % 251) as u8).collect::<Vec<_>>().into()) })
        }
    }

    fn fetch(fetched: &Fetched, range: Range<u64>, amount: Amount) {
        pollster::block_on(fetched.fetch(Path::new("numbers"), range, amount)).expect("they are there");
    }

    #[test]
    fn what_is_missing_is_fetched_once() {
        let fetched = Fetched::new(Arc::new(Numbers(1000)));
        assert!(fetched.get(&(10..20)).is_none());
        assert_eq!(fetched.missing(), Some(10..20));
        assert_eq!(fetched.missing(), None);
        fetch(&fetched, 10..20, Amount::Exactly);
        fetch(&fetched, 30..40, Amount::Exactly);
        assert_eq!(fetched.gaps(&(5..50), Amount::Exactly), [5..10, 20..30, 40..50]);
        assert_eq!(fetched.gaps(&(12..35), Amount::Exactly), [20..30]);
        assert!(fetched.get(&(12..35)).is_none());
        fetch(&fetched, 12..35, Amount::Exactly);
        let wanted: Vec<u8> = (12..35).collect();
        assert_eq!(fetched.get(&(12..35)).as_deref(), Some(&wanted[..]), "of three parts");
        assert_eq!(fetched.get(&(7..7)).as_deref(), Some(&[][..]), "nothing is always there");
        fetched.forget();
        assert!(fetched.get(&(12..35)).is_none());
    }

    #[test]
    fn a_header_is_fetched_in_steps_that_double() {
        let fetched = Fetched::new(Arc::new(Numbers(10 << 20)));
        let mut steps = 0;
        for at in (0..10 << 20).step_by(4096) {
            let range = at..at + 4096;
            if fetched.get(&range).is_none() {
                steps += 1;
                fetch(&fetched, range, Amount::Header);
            }
        }
        assert_eq!(steps, 7, "256 KiB, 512, 1 MiB, 2, 4, 8, 10");
        assert_eq!(fetched.gaps(&(0..10 << 20), Amount::Exactly), [0..0; 0]);
    }
}
