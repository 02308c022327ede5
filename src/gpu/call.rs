//! What a call costs the host.

use super::runtime::Runtime;
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::MatmulOptions;
use std::time::Instant;

/// Calls that are timed; the median counts.
const CALLS: usize = 15;

impl Runtime {
    /// The median time, in seconds, that the host spends on one matmul with `n` columns: recording
    /// and submitting it, not waiting for it.
    ///
    /// # Errors
    /// As [`Runtime::record_matmuls`].
    pub fn time_host(&self, w: &Weights, n: usize, options: &MatmulOptions) -> Result<f64> {
        let bytes = |columns: usize| (n as u64).saturating_mul(columns as u64).saturating_mul(4);
        let x = transfer::buffer(self.context(), "activations", bytes(w.cols()), transfer::INPUT)?;
        let y = transfer::buffer(self.context(), "result", bytes(w.rows()), transfer::OUTPUT)?;
        let mut seconds = vec![];
        for _ in 0..CALLS {
            let start = Instant::now();
            let mut encoder = self.context().encoder();
            self.record_matmuls(&mut encoder, &[(w, &y)], &x, n, options)?;
            self.context().submit(encoder)?;
            seconds.push(start.elapsed().as_secs_f64());
            self.wait()?;
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[CALLS / 2])
    }
}
