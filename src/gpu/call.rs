//! What a replay costs the host.

use super::program::Slice;
use super::runtime::Runtime;
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::MatmulOptions;
use crate::kernel::program::Tokens;
use web_time::Instant;

/// Samples; the median counts.
const SAMPLES: usize = 15;
/// Replays in one sample: together they take longer than the clock's steps.
const REPLAYS: usize = 64;

impl Runtime {
    /// The median time, in seconds, that the host spends on one dispatch of a bound matmul with `n`
    /// columns: recording it into a pass, and its share of that pass. It is not submitted.
    ///
    /// # Errors
    /// As [`Runtime::bind`].
    pub fn time_host(&self, w: &Weights, n: usize, options: &MatmulOptions) -> Result<f64> {
        let bytes = |columns: usize| (n as u64).saturating_mul(columns as u64).saturating_mul(4);
        let x = transfer::buffer(self.context(), "activations", bytes(w.cols()), transfer::INPUT)?;
        let y = transfer::buffer(self.context(), "result", bytes(w.rows()), transfer::OUTPUT)?;
        let mut program = self.program(Tokens::Exactly(n));
        let (input, output) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
        program.matmul(w, input, output, options)?;
        let bound = self.bind(&program, &[(input, Slice::from(&x)), (output, Slice::from(&y))])?;
        let mut seconds = vec![];
        for _ in 0..SAMPLES {
            let mut encoder = self.context().encoder();
            let start = Instant::now();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for _ in 0..REPLAYS {
                bound.record(&mut pass, n)?;
            }
            drop(pass);
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let dispatches = (REPLAYS * bound.dispatch_count(n)).max(1);
        Ok(seconds[SAMPLES / 2] / dispatches as f64)
    }
}
