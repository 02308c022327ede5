//! Work that blocks, for async callers: on a thread of its own, which the future awaits.

use crate::error::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work` on a new thread, from the first poll on. Its result, or its panic, is the future's.
/// If the future is dropped, the work still goes on to its end.
///
/// A thread of its own, not one of a pool: work waits for the device for as long as a minute, and
/// waits of all callers must be possible at once.
///
/// # Errors
/// Those of `work`, and [`Error::Gpu`] if the system starts no thread.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |message: String| Error::Gpu { doing: "starting a thread".into(), message };
    let (sender, done) = oneshot_channel();
    let run = move || {
        // Nobody may be there any more to receive it.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    };
    std::thread::Builder::new().name("qmatmul".into()).spawn(run).map_err(|e| failed(e.to_string()))?;
    match done.receive().await {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(failed("it has ended without a result".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Waker};

    #[test]
    fn a_result_an_error_and_a_panic_come_out() {
        let of = |what: u32| {
            pollster::block_on(off_thread(move || match what {
                0 => Ok(7),
                1 => Err(Error::DeviceLost("gone".into())),
                _ => resume_unwind(Box::new("the work's")),
            }))
        };
        assert_eq!(of(0).ok(), Some(7));
        assert!(matches!(of(1), Err(Error::DeviceLost(reason)) if reason == "gone"));
        let panic = catch_unwind(|| of(2)).expect_err("the work's own");
        assert_eq!(panic.downcast_ref(), Some(&"the work's"));
    }

    #[test]
    fn work_runs_elsewhere_and_goes_on_without_its_future() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let mut future = Box::pin(off_thread(move || {
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
