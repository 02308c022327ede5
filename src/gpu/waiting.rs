//! Calls that wait for the device, each written once, as an `async fn` of this crate.
//!
//! On a system with threads, what such a call awaits is ready as soon as it is asked, as it waits in
//! the thread that asks. [`block_on`] makes the blocking form of the call, and [`in_background`] the
//! async form, on a thread of its own, so that no executor is held up. In a browser nothing may
//! block: what a call awaits is then an event of the browser, the call itself is the async form, and
//! there is no other.

#[cfg(target_family = "wasm")]
pub(super) use browser::catch_panics;
#[cfg(target_family = "wasm")]
pub(crate) use browser::in_background;
#[cfg(not(target_family = "wasm"))]
pub(crate) use threads::{block_on, in_background};
#[cfg(not(target_family = "wasm"))]
pub(super) use threads::{catch_panics, panicked};

#[cfg(target_family = "wasm")]
mod browser {
    use crate::error::Result;
    use std::future::Future;

    /// `work` itself, which begins at the first poll.
    pub(crate) async fn in_background<T>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        work.await
    }

    /// `work` itself: a panic ends the program there.
    pub(in crate::gpu) async fn catch_panics<T>(work: impl Future<Output = T>) -> Result<T, String> {
        Ok(work.await)
    }
}

#[cfg(not(target_family = "wasm"))]
mod threads {
    use crate::error::{Error, Result};
    use futures_intrusive::channel::shared::oneshot_channel;
    use std::any::Any;
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// What wgpu says where it panics: at what few errors of drivers it has no value for.
    pub(in crate::gpu) fn panicked(panic: &Box<dyn Any + Send>) -> String {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        format!("the call panicked: {}", text.unwrap_or("without a word"))
    }

    /// The result of `work`, for which this thread waits.
    pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
        pollster::block_on(work)
    }

    /// The result of `work`.
    ///
    /// # Errors
    /// What it said as it panicked.
    pub(in crate::gpu) async fn catch_panics<T>(work: impl Future<Output = T>) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(|| block_on(work))).map_err(|panic| panicked(&panic))
    }

    /// Runs `work` on a new thread, from the first poll on. Its result, or its panic, is the
    /// future's. If the future is dropped, the work still goes on to its end.
    ///
    /// A thread of its own, not one of a pool: work waits for the device for as long as a minute,
    /// and waits of all callers must be possible at once.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Gpu`] if the system starts no thread.
    pub(crate) async fn in_background<T: Send + 'static>(
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let failed = |message: String| Error::Gpu { doing: "starting a thread".into(), message };
        let (sender, done) = oneshot_channel();
        let run = move || {
            // Nobody may be there any more to receive it.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| block_on(work))));
        };
        let thread = std::thread::Builder::new().name("qmatmul".into());
        thread.spawn(run).map_err(|e| failed(e.to_string()))?;
        match done.receive().await {
            Some(Ok(result)) => result,
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(failed("it has ended without a result".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::task::{Context, Waker};

    #[test]
    fn a_result_an_error_and_a_panic_come_out() {
        let of = |what: u32| {
            block_on(in_background(async move {
                match what {
                    0 => Ok(7),
                    1 => Err(Error::DeviceLost("gone".into())),
                    _ => resume_unwind(Box::new("the work's")),
                }
            }))
        };
        assert_eq!(of(0).ok(), Some(7));
        assert!(matches!(of(1), Err(Error::DeviceLost(reason)) if reason == "gone"));
        let panic = catch_unwind(AssertUnwindSafe(|| of(2))).expect_err("the work's own");
        assert_eq!(panic.downcast_ref(), Some(&"the work's"));
    }

    #[test]
    fn work_runs_elsewhere_and_goes_on_without_its_future() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let mut future = Box::pin(in_background(async move {
            // Ends when the other side is dropped.
            let _ = gone.recv();
            let _ = sender.send(std::thread::current().id());
            Ok(())
        }));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(future);
        drop(go);
        assert_ne!(receiver.recv().expect("it goes on"), std::thread::current().id());
    }
}
