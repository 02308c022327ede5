//! Error scopes around a call of wgpu, and errors that come later than their call.

use crate::error::Error;
use std::future::Future;

/// The scopes around a call, one for each kind of error.
pub(super) struct Scopes {
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
    memory: wgpu::ErrorScopeGuard,
}

/// What they caught.
pub(super) enum Caught {
    OutOfMemory,
    /// Anything else, in the driver's or wgpu's words.
    Other(String),
}

impl Scopes {
    pub fn open(device: &wgpu::Device) -> Self {
        let scope = |filter| device.push_error_scope(filter);
        let validation = scope(wgpu::ErrorFilter::Validation);
        let internal = scope(wgpu::ErrorFilter::Internal);
        Self { validation, internal, memory: scope(wgpu::ErrorFilter::OutOfMemory) }
    }

    /// Closes them now. What they caught is there at once on a native device, and later in a
    /// browser.
    pub fn close(self) -> impl Future<Output = Option<Caught>> + Send + 'static + use<> {
        let (memory, internal) = (self.memory.pop(), self.internal.pop());
        let validation = self.validation.pop();
        async move {
            let (memory, internal, validation) = (memory.await, internal.await, validation.await);
            let other = || internal.or(validation).map(|error| Caught::Other(error.to_string()));
            memory.map(|_| Caught::OutOfMemory).or_else(other)
        }
    }
}

impl Caught {
    /// The error of the call that was `doing` something and allocates `bytes`.
    pub fn error(self, doing: String, bytes: u64) -> Error {
        match self {
            Self::OutOfMemory => Error::OutOfMemory { doing, bytes, left: None },
            Self::Other(message) => Error::Gpu { doing, message },
        }
    }
}

#[cfg(target_family = "wasm")]
pub(super) use late::LateErrors;

#[cfg(any(test, target_family = "wasm"))]
mod late {
    use crate::error::{Error, Result};
    use std::collections::VecDeque;
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Wake, Waker};

    type Outcome = Pin<Box<dyn Future<Output = Option<Error>> + Send>>;

    /// Calls whose errors are not known yet, in their order.
    #[derive(Default)]
    pub(in crate::gpu) struct LateErrors {
        calls: Mutex<VecDeque<Outcome>>,
        waiting: Arc<Waiting>,
    }

    /// Tasks that wait for an outcome. A call that only looks must not take their place.
    #[derive(Default)]
    struct Waiting(Mutex<Vec<Waker>>);

    impl Wake for Waiting {
        fn wake(self: Arc<Self>) {
            let tasks = std::mem::take(&mut *lock(&self.0));
            tasks.into_iter().for_each(Waker::wake);
        }
    }

    impl LateErrors {
        /// Adds a call that was just made: a future of its error.
        pub fn push(&self, outcome: impl Future<Output = Option<Error>> + Send + 'static) {
            lock(&self.calls).push_back(Box::pin(outcome));
        }

        /// The error of the first call that failed, if that is known by now. What was called after
        /// it may have failed in consequence: that is not told.
        pub fn known(&self) -> Result<()> {
            match self.poll() {
                Poll::Ready(result) => result,
                Poll::Pending => Ok(()),
            }
        }

        /// Waits until the outcome of every call so far is known.
        ///
        /// # Errors
        /// That of the first call that failed.
        pub async fn settle(&self) -> Result<()> {
            poll_fn(|context| {
                lock(&self.waiting.0).push(context.waker().clone());
                self.poll()
            })
            .await
        }

        fn poll(&self) -> Poll<Result<()>> {
            let waker = Waker::from(self.waiting.clone());
            let mut context = Context::from_waker(&waker);
            loop {
                // Not held while it is polled, as nothing may call back into a lock.
                let Some(mut first) = lock(&self.calls).pop_front() else { return Poll::Ready(Ok(())) };
                match first.as_mut().poll(&mut context) {
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(error)) => {
                        lock(&self.calls).clear();
                        return Poll::Ready(Err(error));
                    }
                    Poll::Pending => {
                        lock(&self.calls).push_front(first);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::late::LateErrors;
    use crate::error::Error;
    use futures_intrusive::channel::shared::oneshot_channel;
    use std::future::ready;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    fn lost(reason: &str) -> Error {
        Error::DeviceLost(reason.into())
    }

    #[test]
    fn the_first_error_is_told_and_those_that_follow_are_not() {
        let late = LateErrors::default();
        assert!(late.known().is_ok() && pollster::block_on(late.settle()).is_ok());
        late.push(ready(None));
        late.push(ready(Some(lost("first"))));
        late.push(ready(Some(lost("second"))));
        assert!(matches!(late.known(), Err(Error::DeviceLost(reason)) if reason == "first"));
        assert!(late.known().is_ok(), "once");
        late.push(ready(Some(lost("new"))));
        assert!(
            matches!(pollster::block_on(late.settle()), Err(Error::DeviceLost(reason)) if reason == "new")
        );
    }

    /// Counts how often it is woken.
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_looks_does_not_take_the_place_of_those_who_wait() {
        let late = LateErrors::default();
        let (sender, outcome) = oneshot_channel::<Option<Error>>();
        late.push(async move { outcome.receive().await.flatten() });
        let tasks = [(); 2].map(|()| Arc::new(Woken(AtomicUsize::new(0))));
        let mut waits = [Box::pin(late.settle()), Box::pin(late.settle())];
        for (task, wait) in tasks.iter().zip(&mut waits) {
            let waker = Waker::from(task.clone());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        // Nothing is known yet; those who wait are still woken.
        assert!(late.known().is_ok());
        assert!(sender.send(Some(lost("later"))).is_ok());
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed).min(1)), [1, 1]);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(waits[1].as_mut().poll(&mut context), Poll::Ready(Err(_))));
        assert!(matches!(waits[0].as_mut().poll(&mut context), Poll::Ready(Ok(()))), "told to one");
    }
}
