//! Measuring which kernel is the fastest for a request: every candidate is checked, then timed, and
//! the choice kept.
//!
//! Trying all candidates takes long where many shapes are asked for, so three things end it early:
//! a candidate that is much slower than the best in a first few runs is timed no further, one that
//! reaches what the device's memory allows ends the search, as does the end of the time there is.

use crate::check::{self, random_tensor};
use crate::error::Result;
use crate::format::Format;
use crate::gpu::{Runtime, Timing, Tuned, Weights};
use crate::kernel::{self, Candidate, Family, MatmulOptions, Problem};
use crate::tensor::PackedTensor;
use web_time::Instant;

/// How long and on how much a candidate is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds for each candidate, at most.
    pub seconds: f64,
    /// Bytes of weights that the candidates take in turn, so that no cache holds them all; up to 16
    /// copies.
    pub footprint: u64,
    /// Seed of weights and activations.
    pub seed: u64,
    /// What the device's memory gives at best, in GB/s: where a candidate reaches 95 % of what
    /// that allows, the others are left out. `None` tries them all.
    /// [`Runtime::memory_gb_per_s`] measures it.
    pub memory_gb_per_s: Option<f64>,
    /// Seconds for all candidates of a problem together; those whose turn would come later are left
    /// out. `None` tries them all.
    pub budget: Option<f64>,
}

impl Default for Effort {
    fn default() -> Self {
        Self { seconds: 0.1, footprint: 256 << 20, seed: 1, memory_gb_per_s: None, budget: None }
    }
}

/// A candidate that was measured.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `gemv:4x64`
    pub kernel: String,
    /// Median time in seconds; NaN for one that failed the check or could not be run.
    pub seconds: f64,
    /// Why it could not be chosen.
    pub failure: Option<String>,
    /// True for the one that is preferred from now on.
    pub chosen: bool,
}

/// Why candidates were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// One that was measured reaches what the memory allows.
    Memory,
    /// [`Effort::budget`] was used up.
    Budget,
}

/// What came of the candidates for a problem.
#[derive(Clone, Debug)]
pub struct Search {
    /// Those that were tried: first what was chosen before, then in the order of the table that
    /// decides where nothing was measured.
    pub trials: Vec<Trial>,
    /// How many were left out.
    pub left_out: usize,
    /// Why, if some were.
    pub stop: Option<Stop>,
}

impl Search {
    /// The one that is preferred from now on; none if no candidate passed the check.
    pub fn chosen(&self) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.chosen)
    }
}

/// Above so many columns a kernel for few is not worth timing: it reads the weights again and
/// again.
const NARROW: usize = 32;

/// Copies of a weight at most: for few columns, where memory is the bound, and for many, where it
/// does not matter where the weights come from.
const COPIES: u64 = 16;
const COPIES_OF_WIDE: usize = 3;

/// Times the candidates for a matmul of random weights in `format`, and keeps the fastest that
/// passes the check in [`Runtime::tuning`].
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if no kernel applies, the device's errors, and those
/// of writing the choices.
pub fn tune(
    runtime: &Runtime,
    format: &'static Format,
    request: &Problem,
    effort: &Effort,
) -> Result<Search> {
    let name = format!("{} to tune", format.name);
    let packed = random_tensor(name, format, request.rows, request.cols, effort.seed)?;
    Subject::new(runtime, &packed, effort)?.tune(request, effort)
}

/// A weight that kernels are tried on. It lies on the device several times, so that no cache holds
/// it, and is uploaded once for any number of problems.
#[derive(Debug)]
pub struct Subject<'a> {
    runtime: &'a Runtime,
    packed: &'a PackedTensor,
    weights: Vec<Weights>,
}

impl<'a> Subject<'a> {
    /// Uploads as many copies as [`Effort::footprint`] asks for.
    ///
    /// # Errors
    /// As [`Runtime::upload`].
    pub fn new(runtime: &'a Runtime, packed: &'a PackedTensor, effort: &Effort) -> Result<Self> {
        let copies = effort.footprint.div_ceil((packed.data().len() as u64).max(1)).clamp(1, COPIES);
        let weights = (0..copies).map(|_| runtime.upload(packed)).collect::<Result<_>>()?;
        Ok(Self { runtime, packed, weights })
    }

    /// Times the candidates for a matmul of this weight, and keeps the fastest that passes the
    /// check in [`Runtime::tuning`].
    ///
    /// # Errors
    /// As [`tune`].
    pub fn tune(&self, request: &Problem, effort: &Effort) -> Result<Search> {
        let start = Instant::now();
        let (runtime, format) = (self.runtime, self.packed.format());
        let caps = runtime.caps();
        // Says why, if none applies.
        let options = MatmulOptions::with(request.activations);
        kernel::choose(caps, format, request, &options, None)?;
        let is_of_device = |c: &Candidate| caps.software && c.kernel.family == Family::Software;
        let worth = |c: &Candidate| request.batch <= NARROW || c.config.columns > 8 || is_of_device(c);
        let mut candidates: Vec<_> = kernel::candidates(caps, request).into_iter().filter(worth).collect();
        // What was the fastest before comes first: a search that ends early finds nothing worse.
        let before = runtime.tuning().get(format, request);
        candidates.sort_by_key(|candidate| before.as_ref() != Some(&candidate.name()));
        let allowed = allowed_by_memory(self.packed, request, effort);
        let (count, mut trials, mut stop) = (candidates.len(), Vec::<Trial>::new(), None);
        for (i, candidate) in candidates.into_iter().enumerate() {
            let best = trials.iter().map(|t| t.seconds).fold(f64::INFINITY, f64::min);
            let left = effort.budget.map(|budget| budget - start.elapsed().as_secs_f64());
            stop = match left {
                _ if allowed >= ENOUGH * best => Some(Stop::Memory),
                // One is measured at least.
                Some(left) if left <= 0.0 && i > 0 => Some(Stop::Budget),
                _ => None,
            };
            if stop.is_some() {
                break;
            }
            let share = left.map_or(f64::INFINITY, |left| left.max(0.0) / (count - i) as f64);
            let each = Effort { seconds: effort.seconds.min(share), ..*effort };
            trials.push(self.trial(request, candidate, &each, best)?);
        }
        let fastest =
            trials.iter_mut().filter(|t| t.failure.is_none()).min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        if let Some(best) = fastest {
            best.chosen = true;
            let (kernel, micros) = (best.kernel.clone(), best.seconds * 1e6);
            runtime.tuning().set(Tuned { kernel, micros, ..Tuned::class(format, request) })?;
        }
        Ok(Search { left_out: count - trials.len(), trials, stop })
    }

    fn trial(&self, request: &Problem, candidate: Candidate, effort: &Effort, best: f64) -> Result<Trial> {
        let (runtime, name) = (self.runtime, candidate.name());
        let options = MatmulOptions {
            activations: request.activations,
            kernel: Some(candidate.kernel),
            variant: Some(candidate.config.variant),
        };
        let failed = |failure: String| Trial {
            kernel: name.clone(),
            seconds: f64::NAN,
            failure: Some(failure),
            chosen: false,
        };
        let x = check::activations(request.batch * request.cols, effort.seed);
        let rows = (check_rows(request), effort.seed);
        match check::sampled(runtime, self.packed, &self.weights[0], &x, &options, rows) {
            // A variant that does not take the last columns of the batch, or one that the driver
            // refuses.
            Err(crate::Error::Argument(reason) | crate::Error::Gpu { message: reason, .. }) => {
                return Ok(failed(reason));
            }
            Err(other) => return Err(other),
            Ok(comparison) if !comparison.passed => return Ok(failed(comparison.to_string())),
            Ok(_) => {}
        }
        let done = |timing: Timing| Trial {
            kernel: name.clone(),
            seconds: timing.median(),
            failure: None,
            chosen: false,
        };
        let first = runtime.time_matmul(&self.weights[..1], request.batch, &options, 0.0)?;
        if first.median() > HOPELESS * best {
            return Ok(done(first));
        }
        let most = if request.batch > NARROW { COPIES_OF_WIDE } else { self.weights.len() };
        let used = &self.weights[..most.min(self.weights.len())];
        Ok(done(runtime.time_matmul(used, request.batch, &options, effort.seconds)?))
    }
}

/// So many times slower than the best in a first few runs, a candidate is not timed further.
const HOPELESS: f64 = 1.5;

/// The share of what the memory allows at which the search ends.
const ENOUGH: f64 = 0.95;

/// Seconds that memory takes at least to read the weights and the activations and to write the
/// results; 0 if its speed is not known.
fn allowed_by_memory(packed: &PackedTensor, request: &Problem, effort: &Effort) -> f64 {
    let beside = 4 * request.batch * (request.rows + request.cols);
    let known = effort.memory_gb_per_s.filter(|speed| speed.is_finite() && *speed > 0.0);
    known.map_or(0.0, |speed| (packed.data().len() + beside) as f64 / (speed * 1e9))
}

/// Rows of the weight that the check looks at: fewer where the products of the reference, on the
/// host, would take longer than everything on the device.
fn check_rows(request: &Problem) -> usize {
    const PRODUCTS: usize = 1 << 27;
    (PRODUCTS / (request.batch * request.cols).max(1)).clamp(16, 128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format;

    fn problem(batch: usize) -> Problem {
        Problem::of(&format::Q4_0.layout(4096), 4096, 4096, batch)
    }

    #[test]
    fn memory_allows_what_it_has_to_move() {
        let packed = random_tensor("w", format::Q4_0, 4096, 4096, 1).expect("the shape fits");
        let seconds = |memory_gb_per_s, batch| {
            let effort = Effort { memory_gb_per_s, ..Effort::default() };
            allowed_by_memory(&packed, &problem(batch), &effort)
        };
        for nothing in [None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(seconds(nothing, 1), 0.0, "{nothing:?}");
        }
        // 9.4 MB at 1000 GB/s.
        let one = seconds(Some(1000.0), 1);
        assert!((9.4e-6..9.5e-6).contains(&one), "{one}");
        let more = seconds(Some(1000.0), 101) - one;
        assert!((more - 100.0 * 8192.0 * 4.0 / 1e12).abs() < 1e-12, "{more}");
    }

    #[test]
    fn wide_batches_are_checked_on_fewer_rows() {
        assert_eq!([1, 8, 256, 512, 100_000].map(|n| check_rows(&problem(n))), [128, 128, 128, 64, 16]);
        assert_eq!(check_rows(&Problem::default()), 128);
    }
}
