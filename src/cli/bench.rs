//! `qmatmul bench`: the result is checked first, then timed.

use super::list::List;
use super::output::{Cell, Table};
use super::{Common, Verdict, progress};
use crate::check::{self, Comparison};
use crate::error::{Error, Result};
use crate::format::{self, FORMATS, Format};
use crate::gpu::{Runtime, Timing, Weights};
use crate::kernel::{self, Kernel, Request, choose_matmul, reference};
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
    /// Kernel instead of the one chosen for the device
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
        let formats = formats(&self.types)?;
        let kernel = self.kernel.as_deref().map(by_name).transpose()?;
        let runtime = if common.on_cpu() { None } else { Some(common.runtime()?) };
        let mut table = Table::new(HEADERS);
        let bar = progress::bar((formats.len() * self.m.0.len() * self.k.0.len()) as u64, common.quiet);
        let mut passed = true;
        for format in formats {
            for &m in &self.m.0 {
                for &k in &self.k.0 {
                    bar.set_message(format!("{} {m} x {k}", format.name));
                    let packed = check::random_tensor(
                        format!("{} {m} x {k}", format.name),
                        format,
                        m,
                        k,
                        common.seed,
                    )?;
                    passed &= match &runtime {
                        Some(runtime) => self.shape(&mut table, common, runtime, &packed, kernel)?,
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
        kernel: Option<&'static Kernel>,
    ) -> Result<bool> {
        let bytes = packed.data().len() as u64;
        let copies = ((self.footprint << 20).div_ceil(bytes.max(1)) as usize).clamp(1, 256);
        let smallest = self.n.0.iter().copied().min().unwrap_or(1);
        let uploads = if smallest < COMPUTE_BOUND { copies } else { 1 };
        let weights: Vec<Weights> = (0..uploads).map(|_| runtime.upload(packed)).collect::<Result<_>>()?;
        let mut passed = true;
        for &n in &self.n.0 {
            let used = if n < COMPUTE_BOUND { &weights[..] } else { &weights[..1] };
            let comparison = self.check(common, runtime, packed, &weights[0], n, kernel)?;
            let timing = runtime.time_matmul(used, n, kernel, self.seconds)?;
            let name = kernel
                .unwrap_or_else(|| choose_matmul(runtime.caps(), &Request { cols: packed.cols(), batch: n }))
                .name;
            passed &= comparison.passed;
            table.push(row(packed, name, n, used.len(), &timing, &comparison));
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

    /// The whole product on the device, held against the reference on evenly spread rows.
    fn check(
        &self,
        common: &Common,
        runtime: &Runtime,
        packed: &PackedTensor,
        weights: &Weights,
        n: usize,
        kernel: Option<&'static Kernel>,
    ) -> Result<Comparison> {
        let x = check::activations(n * packed.cols(), common.seed);
        let y = runtime.matmul_with(weights, &x, kernel)?;
        let m = packed.rows();
        let step = m.div_ceil(CHECK_ROWS).max(1);
        let rows: Vec<usize> = (0..m).step_by(step).collect();
        let want = reference::matmul(&packed.select_rows(&rows)?, &x)?;
        let got: Vec<f32> = (0..n).flat_map(|c| rows.iter().map(move |r| c * m + r)).map(|i| y[i]).collect();
        Ok(check::compare(&got, &want, check::NMSE_F32))
    }
}

fn row(
    packed: &PackedTensor,
    kernel: &'static str,
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

fn formats(types: &str) -> Result<Vec<&'static Format>> {
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

fn by_name(name: &str) -> Result<&'static Kernel> {
    kernel::by_name(name)
        .filter(|k| k.operation == kernel::Operation::Matmul)
        .ok_or_else(|| Error::Argument(format!("no matmul kernel is called `{name}`")))
}
