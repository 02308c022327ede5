//! Device memory that a runtime holds, counted, and refused beyond a limit: software drivers give
//! out more than there is.

use crate::error::{Error, Result};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in the buffers of one runtime.
pub(super) struct MemoryBudget {
    used: AtomicU64,
    limit: Option<u64>,
}

/// What one buffer takes of its runtime's memory; given back with the last clone.
#[derive(Clone)]
pub(super) struct Reservation {
    _lease: Arc<Lease>,
}

struct Lease {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

/// A buffer that is counted.
#[derive(Clone)]
pub(super) struct Buffer {
    buffer: wgpu::Buffer,
    reservation: Reservation,
}

impl MemoryBudget {
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Counts `bytes` more.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if they are beyond the limit; then they are not counted.
    pub fn take(self: &Arc<Self>, doing: impl Fn() -> String, bytes: u64) -> Result<Reservation> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Reservation { _lease: Arc::new(Lease { budget: self.clone(), bytes }) }),
            Err(used) => {
                Err(Error::OutOfMemory { doing: doing(), bytes, left: Some(limit.saturating_sub(used)) })
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Buffer {
    pub fn new(buffer: wgpu::Buffer, reservation: Reservation) -> Self {
        Self { buffer, reservation }
    }

    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }
}

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

/// Counts these until what `encoder` records has run, or is dropped: as long as the device holds
/// their memory.
pub(super) fn hold(encoder: &wgpu::CommandEncoder, reservations: Vec<Reservation>) {
    encoder.on_submitted_work_done(move || drop(reservations));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_refused_beyond_the_limit_and_given_back() {
        let budget = MemoryBudget::new(Some(100));
        let take = |bytes| budget.take(|| "testing".into(), bytes);
        let first = take(60).expect("60 of 100");
        match take(41).err() {
            Some(Error::OutOfMemory { bytes: 41, left: Some(40), .. }) => {}
            other => panic!("{other:?}"),
        }
        let second = take(40).expect("the rest");
        assert_eq!(budget.used(), 100);
        let clone = second.clone();
        drop((first, second));
        assert_eq!(budget.used(), 40, "a clone keeps its room");
        drop(clone);
        assert_eq!(budget.used(), 0);
        assert!(take(u64::MAX).is_err(), "sums do not wrap");
    }

    #[test]
    fn without_a_limit_room_is_only_counted() {
        let budget = MemoryBudget::new(None);
        let room = budget.take(|| "testing".into(), 1 << 60).expect("no limit");
        assert_eq!(budget.used(), 1 << 60);
        drop(room);
        assert_eq!(budget.used(), 0);
    }
}
