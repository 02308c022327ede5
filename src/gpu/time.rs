//! Timing of recorded work: GPU timestamps where the adapter has them, else wall time over a batch.

use super::context::Context;
use super::memory::Buffer;
use super::program::{BoundProgram, Slice};
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::MatmulOptions;
use crate::kernel::program::Tokens;
use web_time::Instant;

/// Times of one matmul, sorted, in seconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// One entry per run, or per group of short runs.
    pub seconds: Vec<f64>,
    /// True if the times are GPU timestamps, false if they are wall time over a group of runs.
    pub timestamps: bool,
}

impl Timing {
    /// The time below which a share `q` of the samples lies.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.seconds.len().saturating_sub(1);
        self.seconds.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Times `y = x · wᵀ` for `n` columns over the weights in turn, so that a cache cannot serve
/// them all.
///
/// Every weight is run once to warm up (compilation, page faults); then runs over all of them until
/// `least` seconds have passed, three rounds at least. Short runs are timed several at once.
pub(super) async fn matmul(
    context: &Context,
    weights: &[Weights],
    n: usize,
    options: &MatmulOptions,
    least: f64,
) -> Result<Timing> {
    let k = weights.iter().map(Weights::cols).max().unwrap_or(0);
    matmul_of(context, weights, (&noise(context, n, k)?, n), options, least).await
}

/// The same for activations `x[n, k]` of one's own.
pub(super) async fn matmul_of(
    context: &Context,
    weights: &[Weights],
    (x, n): (&[f32], usize),
    options: &MatmulOptions,
    least: f64,
) -> Result<Timing> {
    let m = weights.iter().map(Weights::rows).max().unwrap_or(0);
    let (x, y) = buffers(context, x, n, m)?;
    let one = |w: &Weights| {
        context.owns(w)?;
        let mut program = context.program(Tokens::Exactly(n));
        let (input, output) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
        program.matmul(w, input, output, options)?;
        context.bind(&program, &[(input, Slice::from(&x)), (output, Slice::from(&y))])
    };
    rounds(context, &weights.iter().map(one).collect::<Result<Vec<_>>>()?, least).await
}

/// Runs prepared work in turn until `least` seconds have passed.
pub(super) async fn rounds(context: &Context, prepared: &[BoundProgram], least: f64) -> Result<Timing> {
    if prepared.is_empty() {
        return Err(Error::Argument("there are no weights to time".into()));
    }
    let least = if least.is_finite() { least.clamp(0.0, 3600.0) } else { 0.0 };
    let (clock, once) = warmed_up(context, prepared).await?;
    let group = clock.group(once, prepared.len());
    let (mut seconds, mut next) = (vec![], 0);
    let start = Instant::now();
    while seconds.len() * group < 3 * prepared.len() || start.elapsed().as_secs_f64() < least {
        let batch = (next..next + group).map(|i| &prepared[i % prepared.len()]);
        let time = clock.pass(context, |pass| batch.into_iter().for_each(|p| p.record_all(pass))).await?;
        seconds.push(time / group as f64);
        next += group;
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Timing { seconds, timestamps: clock.has_timestamps() })
}

/// Runs everything once. A clock that works, and the shortest time that was seen.
async fn warmed_up(context: &Context, prepared: &[BoundProgram]) -> Result<(Clock, f64)> {
    let mut clock = Clock::new(context)?;
    let mut once = f64::INFINITY;
    for p in prepared {
        once = once.min(clock.pass(context, |pass| p.record_all(pass)).await?);
    }
    if once == 0.0 {
        // Some drivers offer timestamps and leave them zero.
        clock = Clock { queries: None };
        once = clock.pass(context, |pass| prepared[0].record_all(pass)).await?;
    }
    Ok((clock, once))
}

/// Something to multiply: `n` columns of `k` activations.
pub(super) fn noise(context: &Context, n: usize, k: usize) -> Result<Vec<f32>> {
    fits(context, n, k)?;
    Ok((0..n * k).map(|i| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0).collect())
}

/// The activations on the device, and room for `n` columns of `m` results.
pub(super) fn buffers(context: &Context, x: &[f32], n: usize, m: usize) -> Result<(Buffer, Buffer)> {
    fits(context, n, m)?;
    let x = transfer::filled(context, "activations", x)?;
    let y = transfer::buffer(context, "result", (n * m * 4) as u64, transfer::OUTPUT)?;
    Ok((x, y))
}

/// Refuses what no buffer holds.
fn fits(context: &Context, n: usize, columns: usize) -> Result<()> {
    let limit = context.caps().max_buffer;
    match (n as u64).saturating_mul(columns as u64).saturating_mul(4) {
        wanted if wanted > limit => {
            let what = format!("x or y of a matmul with n = {n}");
            Err(Error::LimitExceeded { what, wanted, limit })
        }
        _ => Ok(()),
    }
}

/// Two timestamps around a pass, where there are timestamps.
pub(super) struct Clock {
    queries: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl Clock {
    pub fn new(context: &Context) -> Result<Self> {
        let device = context.device();
        let make = || {
            let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timing"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            });
            let resolve = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timing"),
                size: 256,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (set, resolve)
        };
        let queries = match device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            true => Some(context.catch_errors(|| "making room for timestamps".into(), 256, make)?),
            false => None,
        };
        Ok(Self { queries })
    }

    /// True if the device itself takes the times.
    pub fn has_timestamps(&self) -> bool {
        self.queries.is_some()
    }

    /// How many runs of about `once` seconds are timed together: a timestamp is coarse, and the
    /// host's clock also sees the submission. Not more than twice around `weights` weights.
    fn group(&self, once: f64, weights: usize) -> usize {
        let least = if self.has_timestamps() { 1e-3 } else { 20e-3 };
        ((least / once.max(1e-9)).ceil() as usize).clamp(1, (2 * weights).max(16))
    }

    /// Seconds that a pass takes which `record` fills: between its timestamps, or from its
    /// submission to its end.
    pub async fn pass(&self, context: &Context, record: impl FnOnce(&mut wgpu::ComputePass)) -> Result<f64> {
        let mut encoder = context.encoder();
        let writes = self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
            query_set: set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("timing"),
            timestamp_writes: writes,
        }));
        let Some((set, resolve)) = &self.queries else {
            let start = Instant::now();
            context.submit(encoder)?;
            context.wait().await?;
            return Ok(start.elapsed().as_secs_f64());
        };
        encoder.resolve_query_set(set, 0..2, resolve, 0);
        let staging = transfer::stage(context, &mut encoder, "timestamps", resolve, 16)?;
        let words = transfer::submit_and_read(context, encoder, &staging, 4).await?;
        let ticks: &[u64] = &[pair(&words[..2]), pair(&words[2..])];
        let period = f64::from(context.queue().get_timestamp_period());
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * period * 1e-9)
    }
}

/// A u64 out of the bits of two f32.
fn pair(words: &[f32]) -> u64 {
    u64::from(words[0].to_bits()) | u64::from(words[1].to_bits()) << 32
}
