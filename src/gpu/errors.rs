//! Errors of the device as values: scopes around calls, a sticky flag for a lost device, a bound on
//! every wait.

use super::hooks::{Hook, Point};
#[cfg(target_family = "wasm")]
use super::scopes::LateErrors;
use super::scopes::{Caught, Scopes};
#[cfg(not(target_family = "wasm"))]
use super::waiting::{block_on, panicked};
use crate::error::{Error, Result};
#[cfg(not(target_family = "wasm"))]
use std::any::Any;
use std::future::{Future, ready};
#[cfg(not(target_family = "wasm"))]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Time between two looks at a device that nobody waits for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What has gone wrong with a device, and how long it is waited for.
#[derive(Clone)]
pub(super) struct DeviceErrors {
    /// Why the device was lost, once its callback or its host has said so.
    lost: Arc<OnceLock<String>>,
    /// True once the device was found to take no work: the callback comes later, or belongs to the
    /// host.
    takes_no_work: Arc<AtomicBool>,
    /// What no scope caught, until a call reports it.
    uncaught: Arc<Mutex<Option<String>>>,
    /// Submissions that have ended. A browser waits by itself, and ends a device that hangs.
    #[cfg(not(target_family = "wasm"))]
    finished: Arc<AtomicU64>,
    /// True from a wait that took too long until one that ends.
    silent: Arc<AtomicBool>,
    /// Time in which a submission must end.
    #[cfg(not(target_family = "wasm"))]
    timeout: Duration,
    /// When [`DeviceErrors::check_now_and_then`] looks at the device.
    looks: Arc<Intervals>,
    hook: Arc<OnceLock<Hook>>,
    /// In a browser, errors come later than their call.
    #[cfg(target_family = "wasm")]
    late: Arc<LateErrors>,
}

impl DeviceErrors {
    /// Errors of a device whose callbacks stay as they are.
    pub fn new(#[cfg_attr(target_family = "wasm", expect(unused_variables))] timeout: Duration) -> Self {
        Self {
            #[cfg(not(target_family = "wasm"))]
            timeout,
            lost: Arc::default(),
            takes_no_work: Arc::default(),
            uncaught: Arc::default(),
            #[cfg(not(target_family = "wasm"))]
            finished: Arc::default(),
            silent: Arc::default(),
            looks: Arc::new(Intervals::new(LOOK_EVERY)),
            hook: Arc::default(),
            #[cfg(target_family = "wasm")]
            late: Arc::default(),
        }
    }

    /// Sets the callbacks of `device`, which is our own: for its loss, and for errors that no scope
    /// caught. wgpu's default handler of those panics; here the next call reports them. Scopes are
    /// per thread, so such an error is not of a call that [`DeviceErrors::catch_errors`] watches.
    pub fn set_callbacks(&self, device: &wgpu::Device) {
        let lost = self.lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(format!("{reason:?}: {message}"));
        });
        let uncaught = self.uncaught.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("uncaught device error: {error}");
            // The first is the cause, those after it follow from it.
            uncaught.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }));
    }

    /// Keeps the reason of a loss, for every later call to report. The first reason stays.
    pub fn set_lost(&self, reason: String) {
        let _ = self.lost.set(reason);
    }

    /// The sticky error of a lost device, or, once, an error that no scope caught. In a browser also
    /// the error of an earlier call, if it is known by now.
    pub fn check(&self) -> Result<()> {
        self.check_lost()?;
        #[cfg(target_family = "wasm")]
        self.late.known()?;
        match self.uncaught.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(Error::Gpu { doing: "an earlier call on this device".into(), message }),
            None => Ok(()),
        }
    }

    /// The error of a device that is lost, even if nobody was told yet: that happens when all work
    /// before it has ended and somebody polls. What is made on a lost device cannot be used, which
    /// is noticed at once.
    #[cfg(not(target_family = "wasm"))]
    pub fn check_alive(&self, device: &wgpu::Device) -> Result<()> {
        self.check_lost()?;
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let usage = wgpu::BufferUsages::MAP_READ;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
        device.create_buffer(&descriptor).map_async(wgpu::MapMode::Read, .., |_| {});
        let is_full = block_on(memory.pop()).is_some();
        if block_on(validation.pop()).is_some() && !is_full {
            self.takes_no_work.store(true, Ordering::Relaxed);
        }
        self.check_lost()
    }

    /// The error of a device that is lost. A browser tells of a loss by itself.
    #[cfg(target_family = "wasm")]
    pub fn check_alive(&self, _device: &wgpu::Device) -> Result<()> {
        self.check_lost()
    }

    /// [`DeviceErrors::check_alive`] for calls that come thousands of times a second and wait for
    /// nothing, such as to record a bound program. A loss that is known is reported at once. One
    /// that nobody has polled for is noticed within [`LOOK_EVERY`], as one call of those in that
    /// time looks at the device. All other calls read two atomics and the clock: they take no lock
    /// and allocate nothing.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; of a call that looks at the device, also an error that no scope
    /// caught, once.
    pub fn check_now_and_then(&self, device: &wgpu::Device) -> Result<()> {
        self.check_lost()?;
        if self.looks.is_due(Instant::now()) {
            self.check()?;
            self.check_alive(device)?;
        }
        Ok(())
    }

    fn check_lost(&self) -> Result<()> {
        let reason = match self.lost.get() {
            Some(reason) => reason,
            None if self.takes_no_work.load(Ordering::Relaxed) => "it takes no work",
            None => return Ok(()),
        };
        Err(Error::DeviceLost(reason.into()))
    }

    /// Runs `call`, turning device errors and panics of wgpu into values. `bytes` is what it
    /// allocates, for the message.
    ///
    /// In a browser errors come later than their call: the next call reports them that looks for
    /// them, a read at the latest, each as that of its own call.
    pub fn catch_errors<T>(
        &self,
        device: &wgpu::Device,
        doing: impl Fn() -> String,
        bytes: u64,
        call: impl FnOnce() -> T,
    ) -> Result<T> {
        self.catch_explained(device, doing, bytes, call, ready)
    }

    /// [`DeviceErrors::catch_errors`] of a call of which `explain` may make more than wgpu's error
    /// says.
    pub fn catch_explained<T, F: Future<Output = String> + Send>(
        &self,
        device: &wgpu::Device,
        doing: impl Fn() -> String,
        bytes: u64,
        call: impl FnOnce() -> T,
        explain: impl FnOnce(String) -> F + Send + 'static,
    ) -> Result<T> {
        self.check()?;
        let scopes = Scopes::open(device);
        #[cfg(target_family = "wasm")]
        {
            self.at(Point::Calling);
            let value = call();
            let (caught, doing) = (scopes.close(), doing());
            self.late.push(async move {
                let error = caught.await?;
                Some(explained(error, explain).await.error(doing, bytes))
            });
            Ok(value)
        }
        #[cfg(not(target_family = "wasm"))]
        {
            let value = catch_unwind(AssertUnwindSafe(|| {
                self.at(Point::Calling);
                call()
            }));
            let caught = block_on(scopes.close());
            if caught.is_some() {
                // A lost device makes other calls fail in odd ways: say that it is lost.
                self.check_alive(device)?;
            }
            match (caught, value) {
                (Some(error), _) => Err(block_on(explained(error, explain)).error(doing(), bytes)),
                (None, Ok(value)) => Ok(value),
                (None, Err(panic)) => {
                    self.check_alive(device)?;
                    Err(Error::Gpu { doing: doing(), message: panicked(&panic) })
                }
            }
        }
    }

    /// Waits until it is known whether the calls so far have failed, where that comes later than the
    /// calls.
    #[cfg(target_family = "wasm")]
    pub async fn settle(&self) -> Result<()> {
        self.late.settle().await?;
        self.check()
    }

    /// True if the end of the device is not to be waited for, as it may never come.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Counts the end of what `encoder` records, for waits that end too late.
    #[cfg(not(target_family = "wasm"))]
    pub fn count(&self, encoder: &wgpu::CommandEncoder) {
        let finished = self.finished.clone();
        encoder.on_submitted_work_done(move || {
            finished.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// The longest time without an answer of the device.
    #[cfg(not(target_family = "wasm"))]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits until everything submitted is done, and makes sure that the device is still there:
    /// another thread that polls may have taken the report of a loss and be about to pass it on.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&self, device: &wgpu::Device) -> Result<()> {
        self.wait_for(device, None)?;
        self.check_alive(device)
    }

    /// Waits until `last`, or everything submitted, is done. Time starts anew with every submission
    /// of ours that ends: many small ones may take long.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait_for(&self, device: &wgpu::Device, last: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        self.at(Point::Waiting);
        let polled = until_done(&self.finished, || self.poll(device, last));
        self.check()?;
        match polled {
            Ok(()) => {
                self.silent.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(wgpu::PollError::Timeout) => Err(self.timed_out()),
            Err(e) => {
                // What is submitted to a device that is about to be lost is dropped without a word.
                self.check_alive(device)?;
                Err(Error::Gpu { doing: "waiting for the device".into(), message: e.to_string() })
            }
        }
    }

    #[cfg(not(target_family = "wasm"))]
    pub fn timed_out(&self) -> Error {
        self.silent.store(true, Ordering::Relaxed);
        Error::TimedOut { doing: "waiting for the device".into(), seconds: self.timeout.as_secs_f64() }
    }

    /// wgpu panics if a device is lost while it is waited for, after the loss was reported. It also
    /// runs callbacks there: a panic in one of the host's is the host's.
    #[cfg(not(target_family = "wasm"))]
    fn poll(
        &self,
        device: &wgpu::Device,
        last: Option<&wgpu::SubmissionIndex>,
    ) -> Result<wgpu::PollStatus, wgpu::PollError> {
        let poll = || {
            self.at(Point::Polling);
            let (submission_index, timeout) = (last.cloned(), Some(self.timeout));
            device.poll(wgpu::PollType::Wait { submission_index, timeout })
        };
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
            // The caller finds it out again.
            let _lost = self.lost_or_panic(device, panic);
            Err(wgpu::PollError::Timeout)
        })
    }

    /// The error of a lost device, over which wgpu has panicked. Otherwise it was a callback of the
    /// host's, and the panic goes on.
    #[cfg(not(target_family = "wasm"))]
    pub fn lost_or_panic(&self, device: &wgpu::Device, panic: Box<dyn Any + Send>) -> Error {
        self.check_alive(device).err().unwrap_or_else(|| resume_unwind(panic))
    }

    /// Tells the hook of a test where we are.
    pub fn at(&self, point: Point) {
        if let Some(hook) = self.hook.get() {
            hook(point);
        }
    }

    /// Sets the hook, once.
    pub fn set_hook(&self, hook: Hook) {
        let _ = self.hook.set(hook);
    }
}

/// Lets one of many callers through in each interval of time.
struct Intervals {
    start: Instant,
    length: Duration,
    /// Nanoseconds from `start` until the next caller is let through.
    next: AtomicU64,
}

impl Intervals {
    /// The first interval begins now: nobody is let through before it has ended.
    fn new(length: Duration) -> Self {
        let next = AtomicU64::new(length.as_nanos() as u64);
        Self { start: Instant::now(), length, next }
    }

    /// True for the first caller after the end of an interval, where the next one begins.
    fn is_due(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let next = self.next.load(Ordering::Relaxed);
        // Of several threads that come at once, one exchanges.
        let then = now + self.length.as_nanos() as u64;
        now >= next && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The same error, as `explain` says it.
async fn explained<F: Future<Output = String>>(error: Caught, explain: impl FnOnce(String) -> F) -> Caught {
    match error {
        Caught::OutOfMemory => error,
        Caught::Other(message) => Caught::Other(explain(message).await),
    }
}

/// Polls until what is waited for is done. A time-out ends that only if nothing has `finished`
/// meanwhile.
#[cfg(not(target_family = "wasm"))]
fn until_done(
    finished: &AtomicU64,
    mut poll: impl FnMut() -> Result<wgpu::PollStatus, wgpu::PollError>,
) -> Result<(), wgpu::PollError> {
    loop {
        let before = finished.load(Ordering::Relaxed);
        match poll() {
            Err(wgpu::PollError::Timeout) if finished.load(Ordering::Relaxed) != before => {}
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Software drivers work while commands are submitted, so that none is waited for as long as on
    /// a device with a queue.
    #[test]
    fn patience_begins_anew_with_everything_that_ends() {
        let finished = AtomicU64::new(7);
        let mut polls = 0;
        let mut wait = |ends_until: u64, done_at: u64| {
            polls = 0;
            until_done(&finished, || {
                polls += 1;
                if polls <= ends_until {
                    finished.fetch_add(1, Ordering::Relaxed);
                }
                if polls < done_at { Err(wgpu::PollError::Timeout) } else { Ok(wgpu::PollStatus::QueueEmpty) }
            })
            .map(|()| polls)
        };
        assert_eq!(wait(4, 5).ok(), Some(5));
        assert!(matches!(wait(3, 5), Err(wgpu::PollError::Timeout)));
        assert_eq!(wait(0, 1).ok(), Some(1));
    }

    #[test]
    fn one_caller_is_let_through_in_each_interval() {
        let intervals = Intervals::new(Duration::from_millis(500));
        let at = |millis| intervals.start + Duration::from_millis(millis);
        let times = [0, 499, 500, 501, 999, 1000, 1700, 2199, 2200, 100];
        let due: Vec<u64> = times.into_iter().filter(|millis| intervals.is_due(at(*millis))).collect();
        assert_eq!(due, [500, 1000, 1700, 2200]);
        // A time before the first interval.
        assert!(!intervals.is_due(intervals.start - Duration::from_millis(1)));
    }

    #[test]
    fn of_threads_that_come_at_once_one_is_let_through() {
        let intervals = Intervals::new(Duration::from_millis(500));
        for round in 1..=100u64 {
            let now = intervals.start + Duration::from_millis(500 * round);
            let through = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(|| intervals.is_due(now)));
                threads.map(|t| t.join().expect("no panic")).iter().filter(|due| **due).count()
            });
            assert_eq!(through, 1, "round {round}");
        }
    }

    #[test]
    fn the_reason_of_a_loss_is_the_one_that_was_told() {
        let errors = DeviceErrors::new(Duration::from_secs(1));
        assert!(errors.check().is_ok());
        errors.takes_no_work.store(true, Ordering::Relaxed);
        let reason = |errors: &DeviceErrors| match errors.check() {
            Err(Error::DeviceLost(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&errors), "it takes no work");
        for told in ["unplugged", "later"] {
            errors.set_lost(told.into());
            assert_eq!(reason(&errors), "unplugged");
        }
    }
}
