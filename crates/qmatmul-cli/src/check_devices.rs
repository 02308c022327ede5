//! Carries out the checks of `qmatmul check`, on several devices of a software adapter.
//!
//! Software drivers compile with one core for each device, and compiling is most of what a check of
//! random weights takes: they get a device for each core. Only the first one decides anything: what
//! another is lost with is left to it.

use super::options::Common;
use super::subjects::Subject;
use super::{interrupt, progress};
use indicatif::ProgressBar;
use qmatmul::check::Outcome;
use qmatmul::error::{Error, Result};
use qmatmul::gpu::Runtime;
use qmatmul_report::plain;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{thread, vec};

/// The outcomes of a subject, and what ended them before their end, if anything did.
pub type Done = (Vec<Outcome>, Result<()>);

/// Devices that work at a time. Each holds what it checks.
const MOST_DEVICES: usize = 4;
/// Groups that a device of a software adapter checks before another takes its place: such a driver
/// keeps megabytes for each pipeline.
const MOST_GROUPS: usize = 8;

/// True if the device will not answer after this.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::DeviceLost(_) | Error::TimedOut { .. })
}

/// What is called with the outcomes of a subject as soon as they are known.
pub type Known<'a> = dyn FnMut(&[Outcome]) + Send + 'a;

/// Goes on after what could not be checked, until the device is gone or the user has enough: what
/// is not reached then is nothing.
pub fn check_all(
    common: &Common,
    runtime: &Runtime,
    subjects: &[Subject],
    known: &mut Known,
) -> Vec<Option<Done>> {
    let groups = groups(subjects);
    // Files have few formats and large tensors: more devices would compile the same again, and hold
    // more.
    let is_random = matches!(subjects, [Subject::Random(_), ..]);
    let (most_groups, others) = match runtime.caps().software && is_random {
        true => (MOST_GROUPS, others(common, groups.len())),
        false => (usize::MAX, vec![]),
    };
    check_on(common, (runtime, &others), most_groups, (subjects, groups), known)
}

fn check_on(
    common: &Common,
    (first, others): (&Runtime, &[Runtime]),
    most_groups: usize,
    (subjects, groups): (&[Subject], Vec<Range<usize>>),
    known: &mut Known,
) -> Vec<Option<Done>> {
    let work = Work {
        common,
        subjects,
        groups: Mutex::new(groups.into_iter()),
        most_groups,
        is_over: AtomicBool::new(false),
        bar: progress::bar(subjects.len() as u64, common.output.quiet),
        told: Mutex::new(Told { wrong: 0, known }),
    };
    let done = thread::scope(|scope| {
        let threads: Vec<_> = others.iter().map(|other| scope.spawn(|| work.help(other))).collect();
        let mut done = work.lead(first);
        // One that panicked has said so.
        done.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
        done
    });
    let mut all: Vec<_> = subjects.iter().map(|_| None).collect();
    done.into_iter().for_each(|(i, done)| all[i] = Some(done));
    let left: Vec<_> = (0..subjects.len()).filter(|i| all[*i].is_none()).collect();
    work.each(first, left).into_iter().for_each(|(i, done)| all[i] = Some(done));
    work.bar.finish_and_clear();
    all
}

/// More devices of the same adapter, for so many groups; none where memory is limited, which is a
/// limit of one device.
fn others(common: &Common, groups: usize) -> Vec<Runtime> {
    let (options, cores) = (common.gpu_options(), thread::available_parallelism().map_or(1, usize::from));
    let useful = if options.memory_limit.is_none() { cores.min(groups).min(MOST_DEVICES) } else { 1 };
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
    most_groups: usize,
    is_over: AtomicBool,
    bar: ProgressBar,
    told: Mutex<Told<'a>>,
}

/// What the user was told so far.
struct Told<'a> {
    wrong: usize,
    known: &'a mut Known<'a>,
}

impl Work<'_> {
    /// True if the device is gone, or the user wants no more.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || interrupt::is_requested()
    }

    /// Tells what is known of a subject.
    fn tell(&self, outcomes: &[Outcome]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.known)(outcomes);
        told.wrong += outcomes.iter().filter(|o| !o.comparison.passed).count();
        progress::failures(&self.bar, told.wrong);
    }

    /// Hands out groups until `check` returns false, with the device to check them on: this one,
    /// and new ones after it.
    fn share(&self, first: &Runtime, mut check: impl FnMut(&Runtime, Range<usize>) -> bool) {
        let next = || self.groups.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut new = None;
        for count in 0.. {
            let Some(group) = next() else { break };
            if count > 0 && count % self.most_groups == 0 {
                // Before the new one is opened.
                drop(new.take());
                new = Runtime::with_options(&self.common.gpu_options()).ok();
            }
            if !check(new.as_ref().unwrap_or(first), group) {
                break;
            }
        }
    }

    /// On the first device, at whose loss all ends.
    fn lead(&self, runtime: &Runtime) -> Vec<(usize, Done)> {
        let mut done = vec![];
        self.share(runtime, |runtime, group| {
            done.extend(self.each(runtime, group));
            !self.is_over()
        });
        done
    }

    /// These, until all is over.
    fn each(&self, runtime: &Runtime, which: impl IntoIterator<Item = usize>) -> Vec<(usize, Done)> {
        let mut done = vec![];
        for i in which.into_iter().take_while(|_| !self.is_over()) {
            let one = self.one(runtime, i);
            if one.1.as_ref().is_err_and(is_gone) {
                self.is_over.store(true, Ordering::Relaxed);
            }
            self.tell(&one.0);
            done.push((i, one));
        }
        done
    }

    /// On another device, until it is gone: what it leaves is the first one's.
    fn help(&self, runtime: &Runtime) -> Vec<(usize, Done)> {
        let mut done = vec![];
        self.share(runtime, |runtime, mut group| {
            group.all(|i| {
                if self.is_over() {
                    return false;
                }
                let one = self.one(runtime, i);
                let (is_gone, is_wrong) =
                    (one.1.as_ref().is_err_and(is_gone), !qmatmul_report::check::right(&one.0));
                if !is_gone || is_wrong {
                    self.tell(&one.0);
                    done.push((i, one));
                }
                !is_gone
            })
        });
        done
    }

    fn one(&self, runtime: &Runtime, i: usize) -> Done {
        self.bar.set_message(plain(&self.subjects[i].name()).to_string());
        let done = self.subjects[i].check(self.common, runtime);
        self.bar.inc(1);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Output;
    use crate::subjects::Random;
    use qmatmul::gpu::Point;
    use qmatmul::kernel::Activations;

    /// Checks four formats, each a group of nine submissions, on so many devices, of which one is
    /// lost at a submission; how each subject ended.
    fn ends(count: usize, (lost, at): (usize, usize), most_groups: usize) -> Vec<Option<bool>> {
        let common = Common { output: Output { quiet: true, ..Output::default() }, ..Common::default() };
        let open = |_| Runtime::with_options(&common.gpu_options()).expect("an adapter");
        let devices: Vec<_> = (0..count).map(open).collect();
        let (device, submitted) = (devices[lost].device().clone(), std::sync::atomic::AtomicUsize::new(0));
        devices[lost].set_hook(Box::new(move |point| {
            if matches!(point, Point::Submitting) && submitted.fetch_add(1, Ordering::Relaxed) == at {
                device.destroy();
            }
        }));
        let random = Random::quick(&[1], Activations::F32).into_iter().take(12);
        let subjects: Vec<_> = random.map(Subject::Random).collect();
        let (mut told, all) = (0, (&subjects[..], groups(&subjects)));
        let mut known = |outcomes: &[Outcome]| told += outcomes.len();
        let done = check_on(&common, (&devices[0], &devices[1..]), most_groups, all, &mut known);
        assert_eq!(told, done.iter().flatten().map(|(outcomes, _)| outcomes.len()).sum::<usize>());
        let end = |(outcomes, ended): Done| {
            ended.is_ok() && outcomes.len() == 3 && qmatmul_report::check::right(&outcomes)
        };
        done.into_iter().map(|done| done.map(end)).collect()
    }

    #[test]
    fn what_another_device_leaves_the_first_one_checks() {
        assert_eq!(ends(2, (1, 4), 8), [Some(true); 12]);
    }

    /// Each group on a device of its own, so that none comes to its tenth submission.
    #[test]
    fn devices_take_turns() {
        assert_eq!(ends(1, (0, 9), 1), [Some(true); 12]);
        assert_eq!(ends(1, (0, 9), 2)[2..5], [Some(true), Some(false), None]);
    }

    #[test]
    fn all_ends_with_the_first_device() {
        let ends = ends(2, (0, 4), 8);
        assert_eq!(ends.iter().filter(|end| **end == Some(false)).count(), 1, "{ends:?}");
        assert!(ends.contains(&None), "{ends:?}");
    }

    #[test]
    fn a_format_is_checked_by_one_device() {
        let subjects: Vec<_> =
            Random::quick(&[1], Activations::F32).into_iter().map(Subject::Random).collect();
        let groups = groups(&subjects);
        assert!(groups.iter().all(|group| group.len() == 3) && groups.len() * 3 == subjects.len());
        assert!(groups.windows(2).all(|two| two[0].end == two[1].start));
    }
}
