//! `qmatmul bench`: the result is checked first, then timed.

use super::list::List;
use super::output::{Cell, Table};
use super::{Common, Verdict, progress};
use crate::check::{self, Comparison};
use crate::error::{Error, Result};
use crate::format::{self, FORMATS, Format};
use crate::gpu::{Runtime, Timing, Weights};
use crate::kernel::{self, Kernel, MatmulOptions, reference};
use crate::tensor::PackedTensor;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Bench {
    /// Formats, comma separated, or `all`
    #[arg(short, default_value = "q4_0")]
    types: String,
    /// Rows of the weight (outputs)
    #[arg(short, default_value = "4096")]
    m: List,
    /// Columns of the weight (inputs)
    #[arg(short, default_value = "4096")]
    k: List,
    /// Batch sizes
    #[arg(short, default_value = "1")]
    n: List,
    /// Kernel instead of the one chosen for the device, with or without a variant: gemv:4x64
    #[arg(long)]
    kernel: Option<String>,
    /// Seconds per row
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rotate over copies of the weight up to this many MiB; more than twice the last-level cache
    #[arg(long, default_value_t = 600)]
    footprint: u64,
}

/// From this batch size on arithmetic is the bound, and one copy of the weight is enough.
const COMPUTE_BOUND: usize = 64;
/// Rows of the weight that the check before the timing looks at.
const CHECK_ROWS: usize = 256;

const HEADERS: &[&str] = &[
    "type", "kernel", "m", "k", "n", "µs", "p20", "p80", "GB/s", "GFLOP/s", "copies", "clock", "nmse",
    "check",
];

impl Bench {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        if !(0.0..=3600.0).contains(&self.seconds) {
            return Err(Error::Argument(format!(
                "--seconds must be within 0 and 3600, got {}",
                self.seconds
            )));
        }
        let formats = formats(&self.types)?;
        let options = options(common, self.kernel.as_deref())?;
        let runtime = if common.on_cpu() { None } else { Some(common.runtime()?) };
        let mut table = Table::new(HEADERS);
        let bar = progress::bar((formats.len() * self.m.0.len() * self.k.0.len()) as u64, common.quiet);
        let mut passed = true;
        for format in formats {
            for &m in &self.m.0 {
                for &k in &self.k.0 {
                    check_size(format, m, k, self.n.0.iter().copied().max().unwrap_or(1))?;
                    bar.set_message(format!("{} {m} x {k}", format.name));
                    let packed = check::random_tensor(
                        format!("{} {m} x {k}", format.name),
                        format,
                        m,
                        k,
                        common.seed,
                    )?;
                    passed &= match &runtime {
                        Some(runtime) => self.shape(&mut table, common, runtime, &packed, &options)?,
                        None => self.reference(&mut table, common, &packed)?,
                    };
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        table.print(common.style)?;
        Ok(if passed { Verdict::Fine } else { Verdict::CheckFailed })
    }

    /// The rows of one weight, one per batch size; false if a check failed.
    fn shape(
        &self,
        table: &mut Table,
        common: &Common,
        runtime: &Runtime,
        packed: &PackedTensor,
        options: &MatmulOptions,
    ) -> Result<bool> {
        let bytes = packed.data().len() as u64;
        let copies = ((self.footprint << 20).div_ceil(bytes.max(1)) as usize).clamp(1, 256);
        let smallest = self.n.0.iter().copied().min().unwrap_or(1);
        let uploads = if smallest < COMPUTE_BOUND { copies } else { 1 };
        let weights: Vec<Weights> = (0..uploads).map(|_| runtime.upload(packed)).collect::<Result<_>>()?;
        let mut passed = true;
        for &n in &self.n.0 {
            let used = if n < COMPUTE_BOUND { &weights[..] } else { &weights[..1] };
            let x = check::activations(n * packed.cols(), common.seed);
            let sample = (CHECK_ROWS, common.seed);
            let comparison = check::sampled(runtime, packed, &weights[0], &x, options, sample)?;
            let timing = runtime.time_matmul(used, n, options, self.seconds)?;
            let name = runtime.kernels(&weights[0], n, options)?;
            passed &= comparison.passed;
            table.push(row(packed, &name, n, used.len(), &timing, &comparison));
        }
        Ok(passed)
    }

    /// The rows of one weight on the reference path, which is its own check.
    fn reference(&self, table: &mut Table, common: &Common, packed: &PackedTensor) -> Result<bool> {
        for &n in &self.n.0 {
            let x = check::activations(n * packed.cols(), common.seed);
            let mut seconds = vec![];
            let start = Instant::now();
            while seconds.len() < 3 || start.elapsed().as_secs_f64() < self.seconds {
                let before = Instant::now();
                reference::matmul(packed, &x)?;
                seconds.push(before.elapsed().as_secs_f64());
            }
            seconds.sort_by(f64::total_cmp);
            let timing = Timing { seconds, timestamps: false };
            table.push(row(packed, "reference", n, 1, &timing, &check::compare(&[], &[], check::NMSE_F32)));
        }
        Ok(true)
    }
}

/// Refuses sizes that no machine holds and columns that the format cannot have, before anything is allocated.
pub(super) fn check_size(format: &Format, m: usize, k: usize, n: usize) -> Result<()> {
    const MOST: u64 = 64 << 30;
    let row = format.row_bytes(k).ok_or_else(|| {
        Error::Argument(format!(
            "{} needs columns divisible by {}, got {k}",
            format.name, format.block_weights
        ))
    })?;
    let n = n as u64;
    let largest = (row as u64).max(n.saturating_mul(4)).saturating_mul(m as u64);
    match largest.max(n.saturating_mul(4).saturating_mul(k as u64)) {
        bytes if bytes > MOST => {
            Err(Error::Argument(format!("m = {m}, k = {k}, n = {n} need {bytes} bytes, more than {MOST}")))
        }
        _ => Ok(()),
    }
}

fn row(
    packed: &PackedTensor,
    kernel: &str,
    n: usize,
    copies: usize,
    timing: &Timing,
    comparison: &Comparison,
) -> Vec<Cell> {
    let (m, k, median) = (packed.rows(), packed.cols(), timing.median());
    let micros = |seconds: f64| Cell::Float(seconds * 1e6, 1);
    vec![
        packed.format().name.into(),
        kernel.into(),
        m.into(),
        k.into(),
        n.into(),
        micros(median),
        micros(timing.quantile(0.2)),
        micros(timing.quantile(0.8)),
        Cell::Float(packed.data().len() as f64 / median * 1e-9, 2),
        Cell::Float(2.0 * (m * k * n) as f64 / median * 1e-9, 1),
        copies.into(),
        if timing.timestamps { "gpu" } else { "wall" }.into(),
        Cell::Tiny(comparison.nmse),
        if comparison.passed { "ok" } else { "WRONG" }.into(),
    ]
}

pub(super) fn formats(types: &str) -> Result<Vec<&'static Format>> {
    if types.eq_ignore_ascii_case("all") {
        return Ok(FORMATS.to_vec());
    }
    let one = |name: &str| {
        format::by_name(name).ok_or_else(|| {
            Error::Argument(format!("no format is called `{name}`; there are: {}", format::names()))
        })
    };
    types.split(',').map(one).collect()
}

/// The activations of all verbs, and `kernel` or `kernel:variant`.
fn options(common: &Common, kernel: Option<&str>) -> Result<MatmulOptions> {
    let Some(kernel) = kernel else { return Ok(common.options()) };
    let (name, variant) = kernel.split_once(':').map_or((kernel, None), |(k, v)| (k, Some(v.to_owned())));
    Ok(MatmulOptions { kernel: Some(by_name(name)?), variant, ..common.options() })
}

fn by_name(name: &str) -> Result<&'static Kernel> {
    kernel::by_name(name)
        .filter(|k| k.operation == kernel::Operation::Matmul)
        .ok_or_else(|| Error::Argument(format!("no matmul kernel is called `{name}`")))
}
