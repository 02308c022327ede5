//! Carries out the checks of `qmatmul check`, on several devices of a software adapter.
//!
//! Software drivers compile with one core for each device, and compiling is most of what a check of random weights takes: they get a
//! device for each core. Only the first one decides anything: what another is lost with is left to it.

use super::output::plain;
use super::subjects::Subject;
use super::{Common, progress};
use crate::check::Outcome;
use crate::error::{Error, Result};
use crate::gpu::Runtime;
use indicatif::ProgressBar;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{thread, vec};

/// The outcomes of a subject, and what ended them before their end, if anything did.
pub type Done = (Vec<Outcome>, Result<()>);

/// Devices that work at a time. Each holds what it checks.
const MOST_DEVICES: usize = 4;

/// True if the device will not answer after this.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::DeviceLost(_) | Error::TimedOut { .. })
}

/// Goes on after what could not be checked, until the device is gone: what is not reached then is nothing.
pub fn check_all(common: &Common, runtime: &Runtime, subjects: &[Subject]) -> Vec<Option<Done>> {
    let others = others(common, runtime, subjects);
    let work = Work {
        common,
        subjects,
        groups: Mutex::new(groups(subjects).into_iter()),
        is_over: AtomicBool::new(false),
        bar: progress::bar(subjects.len() as u64, common.quiet),
    };
    let done = thread::scope(|scope| {
        let threads: Vec<_> = others.iter().map(|other| scope.spawn(|| work.help(other))).collect();
        let mut done = work.lead(runtime);
        // One that panicked has said so.
        done.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
        done
    });
    let mut all: Vec<_> = subjects.iter().map(|_| None).collect();
    done.into_iter().for_each(|(i, done)| all[i] = Some(done));
    let left = |i: &usize| all[*i].is_none();
    let left: Vec<_> = (0..subjects.len()).filter(left).collect();
    work.each(runtime, left).into_iter().for_each(|(i, done)| all[i] = Some(done));
    work.bar.finish_and_clear();
    all
}

/// More devices of the same adapter. None for files, which have few formats and large tensors: they would compile the same twice, and
/// hold twice as much. None where memory is limited, which is a limit of one device.
fn others(common: &Common, runtime: &Runtime, subjects: &[Subject]) -> Vec<Runtime> {
    let (options, cores) = (common.gpu_options(), thread::available_parallelism().map_or(1, usize::from));
    let pays = runtime.caps().software && options.memory_limit.is_none();
    let useful = match subjects {
        [Subject::Random(_), ..] if pays => cores.min(groups(subjects).len()).min(MOST_DEVICES),
        _ => 1,
    };
    (1..useful).map_while(|_| Runtime::with_options(&options).ok()).collect()
}

/// The subjects that one device had better check together, as they need the same pipelines.
fn groups(subjects: &[Subject]) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |group: &[Subject]| {
        let start = end;
        end += group.len();
        start..end
    };
    subjects.chunk_by(|a, b| a.shares_pipelines(b)).map(range).collect()
}

/// What is to be done, and whether it is at an end.
struct Work<'a> {
    common: &'a Common,
    subjects: &'a [Subject<'a>],
    groups: Mutex<vec::IntoIter<Range<usize>>>,
    is_over: AtomicBool,
    bar: ProgressBar,
}

impl Work<'_> {
    fn next(&self) -> Option<Range<usize>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// On the first device, at whose loss all ends.
    fn lead(&self, runtime: &Runtime) -> Vec<(usize, Done)> {
        std::iter::from_fn(|| self.next()).flat_map(|group| self.each(runtime, group)).collect()
    }

    /// These, until all is over.
    fn each(&self, runtime: &Runtime, which: impl IntoIterator<Item = usize>) -> Vec<(usize, Done)> {
        let mut done = vec![];
        for i in which.into_iter().take_while(|_| !self.is_over.load(Ordering::Relaxed)) {
            let one = self.one(runtime, i);
            if one.1.as_ref().is_err_and(is_gone) {
                self.is_over.store(true, Ordering::Relaxed);
            }
            done.push((i, one));
        }
        done
    }

    /// On another device, until it fails: what it leaves is the first one's.
    fn help(&self, runtime: &Runtime) -> Vec<(usize, Done)> {
        let mut done = vec![];
        for i in std::iter::from_fn(|| self.next()).flatten() {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let one = self.one(runtime, i);
            if one.1.is_err() {
                break;
            }
            done.push((i, one));
        }
        done
    }

    fn one(&self, runtime: &Runtime, i: usize) -> Done {
        self.bar.set_message(plain(&self.subjects[i].name()).to_string());
        let done = self.subjects[i].check(self.common, runtime);
        self.bar.inc(1);
        done
    }
}
