//! Files that are read range by range, by a future: an HTTP server's, a browser's `Blob`.
//!
//! Parsers are synchronous and run over what has been fetched. A read of bytes that are missing
//! fails and leaves a note; [`fetch`] gets what the notes ask for, and the parser runs again.
//! Headers are fetched in steps that double, so that all runs together take linear time.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

/// The answer of [`ByteRanges::read`]: a boxed future. It is `Send`, except on wasm32, where the
/// promises of a browser are not.
#[cfg(not(target_arch = "wasm32"))]
pub type RangeFuture<'a> = Pin<Box<dyn Future<Output = std::io::Result<Bytes>> + Send + 'a>>;
/// The answer of [`ByteRanges::read`]: a boxed future. It is `Send`, except on wasm32, where the
/// promises of a browser are not.
#[cfg(target_arch = "wasm32")]
pub type RangeFuture<'a> = Pin<Box<dyn Future<Output = std::io::Result<Bytes>> + 'a>>;

/// A file whose bytes come range by range, for [`Model::open_ranges`]: of an HTTP server, a
/// browser's `Blob`, an archive.
///
/// [`Model::open_ranges`]: crate::file::Model::open_ranges
///
/// ```
/// use qmatmul::file::{ByteRanges, RangeFuture};
/// use std::{fs::File, io::{Read, Seek, SeekFrom}, ops::Range, sync::Mutex};
///
/// struct Disk {
///     file: Mutex<File>,
///     len: u64,
/// }
///
/// impl ByteRanges for Disk {
///     fn len(&self) -> u64 {
///         self.len
///     }
///
///     fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
///         Box::pin(async move {
///             let mut bytes = vec![0; (range.end - range.start) as usize];
///             let mut file = self.file.lock().unwrap();
///             file.seek(SeekFrom::Start(range.start))?;
///             file.read_exact(&mut bytes)?;
///             Ok(bytes.into())
///         })
///     }
/// }
/// ```
pub trait ByteRanges: Send + Sync {
    /// The length of the file in bytes. It is compared before and after each read: a file that
    /// changes its length is rejected with an error.
    fn len(&self) -> u64;

    /// True for a file without bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, which is not empty and lies inside the file: exactly as many. Several
    /// reads may be in progress at once.
    ///
    /// # Errors
    /// Whatever kept them from being read; [`Error::Io`] carries it on.
    fn read(&self, range: Range<u64>) -> RangeFuture<'_>;
}

/// The least that is fetched of a header.
const AHEAD: u64 = 256 << 10;
/// What is fetched first of all files of a model together, where they are so many that [`AHEAD`] of
/// each would be more.
const AHEAD_OF_ALL: u64 = 16 << 20;
/// The least of that for one of them.
const AHEAD_OF_MANY: u64 = 16 << 10;
/// Reads in progress at once.
const AT_ONCE: usize = 16;

/// One file of a model, and what one reader of it has fetched. Clones share that.
#[derive(Clone)]
pub(crate) struct RangeFile {
    named: Arc<Named>,
    held: Arc<Mutex<Held>>,
}

struct Named {
    name: String,
    path: PathBuf,
    /// As it was when the file was opened.
    len: u64,
    ahead: u64,
    ranges: Arc<dyn ByteRanges>,
}

#[derive(Default)]
struct Held {
    /// By their offsets; they do not overlap.
    pieces: BTreeMap<u64, Bytes>,
    /// What was read and is missing.
    wanted: Vec<Range<u64>>,
    /// Nothing will be fetched any more.
    closed: bool,
}

impl std::fmt::Debug for RangeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeFile").field("path", &self.named.path).finish_non_exhaustive()
    }
}

impl RangeFile {
    /// The files of a model, by name, in a folder of this label.
    pub fn all(label: &Path, files: &[(&str, Arc<dyn ByteRanges>)]) -> Vec<Self> {
        let ahead = (AHEAD_OF_ALL / files.len().max(1) as u64).clamp(AHEAD_OF_MANY, AHEAD);
        let named = files.iter().map(|(name, ranges)| Named {
            name: (*name).into(),
            path: label.join(name),
            len: ranges.len(),
            ahead,
            ranges: ranges.clone(),
        });
        named.map(|named| Self { named: named.into(), held: Arc::default() }).collect()
    }

    /// The same file for another reader, who has fetched nothing.
    pub fn for_load(&self) -> Self {
        Self { named: self.named.clone(), held: Arc::default() }
    }

    pub fn name(&self) -> &str {
        &self.named.name
    }

    pub fn path(&self) -> &Path {
        &self.named.path
    }

    pub fn len(&self) -> u64 {
        self.named.len
    }

    /// Drops what was fetched; what is read from now on is missing.
    pub fn close(&self) {
        *self.held() = Held { closed: true, ..Held::default() };
    }

    /// True if something was read that is missing.
    pub fn lacks(&self) -> bool {
        !self.held().wanted.is_empty()
    }

    /// The ranges that were read and are missing.
    pub fn wanted(&self) -> Vec<Range<u64>> {
        self.held().wanted.clone()
    }

    /// The bytes of `range`, which lies inside the file.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let mut held = self.held();
        match held.slice(&range) {
            Some(bytes) => Ok(bytes),
            None => Err(self.missing(&mut held, range)),
        }
    }

    /// The bytes of `range`, which a header begins with: where they are missing, more is fetched
    /// than them.
    pub fn append(&self, out: &mut Vec<u8>, range: Range<u64>) -> Result<()> {
        let mut held = self.held();
        if let Some(gap) = held.gaps(&range).first() {
            let ahead = gap.start.saturating_add(self.named.ahead.max(gap.start));
            let end = ahead.min(self.len()).max(range.end);
            return Err(self.missing(&mut held, gap.start..end));
        }
        held.pieces_of(&range).for_each(|piece| out.extend_from_slice(&piece));
        Ok(())
    }

    /// Notes that `range`, which lies inside the file, is to be fetched too.
    pub fn want(&self, range: Range<u64>) {
        let mut held = self.held();
        let gaps = held.gaps(&range);
        if !held.closed {
            held.wanted.extend(gaps);
        }
    }

    fn missing(&self, held: &mut Held, range: Range<u64>) -> Error {
        let gaps = held.gaps(&range);
        if !held.closed {
            held.wanted.extend(gaps);
        }
        Error::Argument(format!(
            "{}: bytes {range:?} of {} were not fetched: of a model that was opened by ranges, ask with `tensor_async`, `rows_async`, `linear_async`, `bytes_async` or `range_async`",
            self.path().display(),
            self.len()
        ))
    }

    /// The notes, which are deleted: sorted, and as one where they touch.
    fn take_wanted(&self) -> Vec<Range<u64>> {
        let mut wanted = std::mem::take(&mut self.held().wanted);
        wanted.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(wanted.len());
        for range in wanted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    async fn fetch(&self, range: Range<u64>) -> Result<()> {
        self.check_len()?;
        let wanted = range.end - range.start;
        // The most that one allocation holds.
        if isize::try_from(wanted).is_err() {
            return Err(self.failed(&range, ErrorKind::OutOfMemory, "more than an allocation can hold"));
        }
        let read = self.named.ranges.read(range.clone()).await;
        self.check_len()?;
        let bytes = read.map_err(|e| self.failed(&range, e.kind(), &e.to_string()))?;
        if bytes.len() as u64 != wanted {
            return Err(Error::Malformed {
                file: self.path().display().to_string(),
                what: "file".into(),
                offset: range.start,
                problem: format!("wanted the {wanted} bytes {range:?}, its source gave {}", bytes.len()),
            });
        }
        self.held().pieces.insert(range.start, bytes);
        Ok(())
    }

    fn check_len(&self) -> Result<()> {
        let (len, now) = (self.len(), self.named.ranges.len());
        if now == len { Ok(()) } else { Err(changed(self.path(), len, now)) }
    }

    fn failed(&self, range: &Range<u64>, kind: ErrorKind, problem: &str) -> Error {
        let problem = format!("bytes {range:?} of {}: {problem}", self.len());
        Error::io("reading", self.path())(IoError::new(kind, problem))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A file is not as long as it was when it was opened.
pub(crate) fn changed(path: &Path, len: u64, now: u64) -> Error {
    Error::Malformed {
        file: path.display().to_string(),
        what: "file".into(),
        offset: now.min(len),
        problem: format!("it had {len} bytes when it was opened, now it has {now}"),
    }
}

impl Held {
    /// What of `range` is missing.
    fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (vec![], range.start);
        while at < range.end {
            let before = self.pieces.range(..=at).next_back();
            let end = before.map_or(0, |(start, piece)| start + piece.len() as u64);
            if end > at {
                at = end;
                continue;
            }
            let next = self.pieces.range(at..range.end).next().map_or(range.end, |(start, _)| *start);
            gaps.push(at..next);
            at = next;
        }
        gaps
    }

    /// The pieces of `range`, of which nothing is missing.
    fn pieces_of(&self, range: &Range<u64>) -> impl Iterator<Item = Bytes> {
        let (start, end) = (range.start, range.end);
        let first = self.pieces.range(..=start).next_back().map_or(start, |(first, _)| *first);
        self.pieces.range(first..end.max(first)).filter_map(move |(at, piece)| {
            let from = start.saturating_sub(*at).min(piece.len() as u64) as usize;
            let to = (end - at).min(piece.len() as u64) as usize;
            (from < to).then(|| piece.slice(from..to))
        })
    }

    /// The bytes of `range`, unless some are missing: a slice where they lie in one piece.
    fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        if !self.gaps(range).is_empty() {
            return None;
        }
        let mut pieces = self.pieces_of(range);
        let first = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => Some(first),
            Some(second) => {
                let mut all = [first, second].concat();
                pieces.for_each(|piece| all.extend_from_slice(&piece));
                Some(all.into())
            }
        }
    }
}

/// Fetches what was read of these files and is missing.
///
/// # Errors
/// [`Error::Io`] from a source, [`Error::Malformed`] for a file of another length than before and a
/// source that gives more or fewer bytes than it was asked for.
pub(crate) async fn fetch(files: impl Iterator<Item = &RangeFile>) -> Result<()> {
    let wanted = files.flat_map(|file| file.take_wanted().into_iter().map(move |range| (file, range)));
    let wanted: Vec<_> = wanted.collect();
    for some in wanted.chunks(AT_ONCE) {
        all(some.iter().map(|(file, range)| file.fetch(range.clone()))).await?;
    }
    Ok(())
}

/// Waits for all of these, or for the first that fails.
async fn all<F: Future<Output = Result<()>>>(futures: impl Iterator<Item = F>) -> Result<()> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        let mut at = 0;
        while at < futures.len() {
            match futures[at].as_mut().poll(context) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(())) => drop(futures.swap_remove(at)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if futures.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
