//! Measuring which kernel is the fastest for a request: every candidate is checked, then timed, and
//! the choice kept.

use crate::check::{self, random_tensor};
use crate::error::Result;
use crate::format::Format;
use crate::gpu::{Runtime, Timing, Tuned, Weights};
use crate::kernel::{self, Candidate, MatmulOptions, Problem};
use crate::tensor::PackedTensor;

/// How long and on how much a candidate is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds for each candidate.
    pub seconds: f64,
    /// Bytes of weights that the candidates take in turn, so that no cache holds them all; 3 to 16
    /// copies.
    pub footprint: u64,
    /// Seed of weights and activations.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { seconds: 0.1, footprint: 256 << 20, seed: 1 }
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

/// Above so many columns a kernel for few is not worth timing: it reads the weights again and
/// again.
const NARROW: usize = 32;

/// Times the candidates for a matmul of random weights in `format`, keeps the fastest that passes
/// the check in [`Runtime::tuning`], and returns all, in the order of the table that decides where
/// nothing was measured.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if no kernel applies, the device's errors, and those
/// of writing the choices.
pub fn tune(
    runtime: &Runtime,
    format: &'static Format,
    request: &Problem,
    effort: &Effort,
) -> Result<Vec<Trial>> {
    let packed =
        random_tensor(format!("{} to tune", format.name), format, request.rows, request.cols, effort.seed)?;
    // Says why, if none applies.
    kernel::choose(runtime.caps(), format, request, &MatmulOptions::with(request.activations), None)?;
    // Arithmetic is the bound of wide batches, and then it does not matter where the weights come
    // from.
    let most = if request.batch > NARROW { 3 } else { 16 };
    let copies = (effort.footprint / (packed.data().len() as u64).max(1)).clamp(3, most);
    let weights: Vec<Weights> = (0..copies).map(|_| runtime.upload(&packed)).collect::<Result<_>>()?;
    let worth = |c: &Candidate| request.batch <= NARROW || c.config.columns > 8 || runtime.caps().software;
    let candidates = kernel::candidates(runtime.caps(), request).into_iter().filter(worth);
    let mut trials: Vec<Trial> = vec![];
    for candidate in candidates {
        let best = trials.iter().map(|t| t.seconds).fold(f64::INFINITY, f64::min);
        trials.push(trial(runtime, &packed, &weights, request, candidate, (effort, best))?);
    }
    let fastest =
        trials.iter_mut().filter(|t| t.failure.is_none()).min_by(|a, b| a.seconds.total_cmp(&b.seconds));
    if let Some(best) = fastest {
        best.chosen = true;
        let micros = best.seconds * 1e6;
        runtime.tuning().set(Tuned {
            kernel: best.kernel.clone(),
            micros,
            ..Tuned::class(format, request)
        })?;
    }
    Ok(trials)
}

/// So many times slower than the best in a first few runs, a candidate is not timed further.
const HOPELESS: f64 = 2.0;

/// Rows of the weight that the check looks at.
const CHECK_ROWS: usize = 128;

fn trial(
    runtime: &Runtime,
    packed: &PackedTensor,
    weights: &[Weights],
    request: &Problem,
    candidate: Candidate,
    (effort, best): (&Effort, f64),
) -> Result<Trial> {
    let name = candidate.name();
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
    match check::sampled(runtime, packed, &weights[0], &x, &options, (CHECK_ROWS, effort.seed)) {
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
    let first = runtime.time_matmul(&weights[..1], request.batch, &options, 0.0)?;
    if first.median() > HOPELESS * best {
        return Ok(done(first));
    }
    Ok(done(runtime.time_matmul(weights, request.batch, &options, effort.seconds)?))
}
