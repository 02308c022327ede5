//! What the device does at best: the ceilings that a kernel's speed is held against.
//!
//! Every figure is measured on this device in this run, through the same wgpu calls that the
//! kernels use; bandwidth and arithmetic by shaders of `shaders/peak`, several shapes of each, of
//! which the fastest counts.
//!
//! On a software adapter a shader is not the fastest program of the machine: Mesa's driver loads
//! the 32-bit words of each lane one by one, so instructions are the bound, not memory. On one
//! machine (2 cores, AVX2) shaders read 11 GB/s on Mesa 22.3.6, from 1 MiB in a cache as from 128
//! MiB far beyond it (26.2.6: 18 and 15), and copied 12 (18 and 11); C with `-O3` and two threads
//! over arrays of 256 MiB reads 23 and copies 28, with one thread 17 and 21. A copy may also be the
//! driver's own command, which there is the C library's copy on one thread: 15 to 20. So a share of
//! `copy` says how far a kernel is from the memory, a share of `read` how far from what shaders of
//! this driver can load.

mod arithmetic;
mod bandwidth;
mod overhead;
mod probe;
#[cfg(test)]
mod tests;

use super::context::Context;
use super::runtime::Runtime;
use crate::error::Result;
use probe::Lab;

/// Figures of [`Runtime::peak`].
#[derive(Clone, Debug)]
pub struct Peak {
    /// Memory bandwidth: every operation at sizes from a cache's to far beyond, in rising order.
    pub bandwidth: Vec<Bandwidth>,
    /// Arithmetic, of the kinds that the device has.
    pub arithmetic: Vec<Arithmetic>,
    /// One empty dispatch within a pass of many, with the barrier that its result brings.
    pub dispatch_seconds: f64,
    /// Encoding one small dispatch, submitting it and waiting for its end.
    pub submit_seconds: f64,
    /// Reading a result of 16 KiB back.
    pub readback_seconds: f64,
    /// The queue's writes into device memory, in chunks as weights are uploaded.
    pub upload_gb_per_s: f64,
    /// The host's plain copy of the same bytes by one thread; each byte counts once, as in the
    /// upload.
    pub host_copy_gb_per_s: f64,
}

/// One operation at one size.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    /// `read`, `copy` or `write`.
    pub operation: &'static str,
    /// Bytes that are read or written; a copy reads as many and writes as many.
    pub bytes: u64,
    /// 10⁹ bytes a second; a copy's are those read and those written.
    pub gb_per_s: f64,
}

/// One kind of arithmetic.
#[derive(Clone, Debug)]
pub struct Arithmetic {
    /// `f32 fma`, `f16 fma`, `int8 dot`, …
    pub kind: &'static str,
    /// 10¹² operations a second; a multiplication and an addition are two.
    pub tera_ops: f64,
}

impl Peak {
    /// Bytes read and written by a copy far beyond the last-level cache, in GB/s.
    pub fn copy_gb_per_s(&self) -> f64 {
        self.beyond_the_cache("copy")
    }

    /// Bytes read far beyond the last-level cache, in GB/s.
    pub fn read_gb_per_s(&self) -> f64 {
        self.beyond_the_cache("read")
    }

    fn beyond_the_cache(&self, operation: &str) -> f64 {
        let rows = self.bandwidth.iter().filter(|b| b.operation == operation);
        rows.max_by_key(|b| b.bytes).map_or(f64::NAN, |b| b.gb_per_s)
    }
}

/// What the memory gives at best, far beyond the last-level cache.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MemorySpeed {
    /// 10⁹ bytes read a second.
    pub read_gb_per_s: f64,
    /// 10⁹ bytes read and written a second by a copy.
    pub copy_gb_per_s: f64,
}

impl MemorySpeed {
    /// The larger of both.
    pub fn best_gb_per_s(&self) -> f64 {
        self.read_gb_per_s.max(self.copy_gb_per_s)
    }
}

impl Runtime {
    /// True if the device itself takes times, false if the host's clock does.
    pub fn has_timestamps(&self) -> bool {
        self.device().features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }
}

/// All figures, each measured for about `seconds`.
pub(super) async fn all(context: &Context, seconds: f64) -> Result<Peak> {
    let seconds = sane(seconds);
    let lab = Lab::new(context)?;
    let bandwidth = bandwidth::all(&lab, seconds).await?;
    let small = overhead::Small::new(&lab)?;
    let (upload_gb_per_s, host_copy_gb_per_s) = overhead::upload(&lab, seconds).await?;
    Ok(Peak {
        bandwidth,
        arithmetic: arithmetic::all(&lab, seconds).await?,
        dispatch_seconds: small.dispatch(&lab, seconds).await?,
        submit_seconds: small.submit(&lab, seconds).await?,
        readback_seconds: small.readback(&lab, seconds).await?,
        upload_gb_per_s,
        host_copy_gb_per_s,
    })
}

/// [`Peak::copy_gb_per_s`] alone.
pub(super) async fn copy(context: &Context, seconds: f64) -> Result<f64> {
    Ok(bandwidth::copy(&Lab::new(context)?, sane(seconds)).await?.gb_per_s)
}

/// [`Peak::copy_gb_per_s`] and [`Peak::read_gb_per_s`] alone.
pub(super) async fn memory(context: &Context, seconds: f64) -> Result<MemorySpeed> {
    bandwidth::beyond_the_cache(&Lab::new(context)?, sane(seconds)).await
}

fn sane(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.clamp(0.0, 60.0) } else { 0.0 }
}
