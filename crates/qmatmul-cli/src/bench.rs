//! `qmatmul bench`: the result is checked first, then timed.

use super::compare::{self, Earlier};
use super::list::List;
use super::measured::{self, Measured};
use super::output::Table;
use super::{Common, Verdict, peak, pictures, progress};
use qmatmul::check::{self, Comparison};
use qmatmul::error::{Error, Result};
use qmatmul::format::{self, FORMATS, Format};
use qmatmul::gpu::{self, Peak, Runtime, Timing, Weights};
use qmatmul::kernel::{self, Activations, Kernel, MatmulOptions, reference};
use qmatmul::tensor::PackedTensor;
use std::path::PathBuf;
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
    /// Rows and columns in pairs, as in 4096x14336,14336x4096, in place of every m with every k
    #[arg(long, value_name = "MxK", value_delimiter = ',', conflicts_with_all = ["m", "k"])]
    shapes: Vec<Shape>,
    /// Batch sizes
    #[arg(short, default_value = "1")]
    n: List,
    /// Kernel instead of the one chosen for the device, with or without a variant: gemv:4x64
    #[arg(long)]
    kernel: Option<String>,
    /// Share of features that are outliers with `--activations int8`
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    outliers: f64,
    /// Seconds per row
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rotate over copies of the weight up to this many MiB, so that no cache holds them: by
    /// default 2.5 times the processor's last-level cache on software adapters, 600 on GPUs and
    /// where the cache is unknown
    #[arg(long, value_name = "MIB")]
    footprint: Option<u64>,
    /// An earlier run (of benches/record.sh, or -o jsonl, json or csv): adds its time and `ratio`,
    /// how many times as fast each case is now
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Draw each case under the device's measured ceilings (a roofline)
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Draw time against m·k, with the line of proportional cost
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Rows and columns of a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    m: usize,
    k: usize,
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.trim().parse().ok().filter(|n| *n > 0);
        let numbers = text.split_once(['x', 'X', '×']).and_then(|(m, k)| Some((number(m)?, number(k)?)));
        numbers.map(|(m, k)| Self { m, k }).ok_or_else(|| format!("`{text}` is not a shape like 4096x14336"))
    }
}

/// From this batch size on arithmetic is the bound, and one copy of the weight is enough.
const COMPUTE_BOUND: usize = 64;
/// Rows of the weight that the check before the timing looks at.
const CHECK_ROWS: usize = 256;
/// Seconds for the copy bandwidth, and for each figure of the ceilings of a roofline, at most.
const PEAK_SECONDS: f64 = 0.3;

/// The device's ceilings, as far as this run needs them.
#[derive(Default)]
struct Ceilings {
    copy: Option<f64>,
    peak: Option<Peak>,
}

impl Bench {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        peak::seconds(self.seconds)?;
        let formats = formats(&self.types, common.activations)?;
        let options = options(common, self.kernel.as_deref())?;
        let shapes = self.shapes();
        let most = self.n.0.iter().copied().max().unwrap_or(1);
        for format in &formats {
            shapes.iter().try_for_each(|Shape { m, k }| check_size(format, *m, *k, most))?;
        }
        let earlier = self.compare.as_deref().map(Earlier::read).transpose()?;
        if let Some(earlier) = earlier.as_ref().filter(|e| !e.origin.is_empty()) {
            common.say(&format!("compared with: {}", earlier.origin));
        }
        if common.on_cpu() && self.svg.is_some() {
            return Err(Error::Argument("--svg needs a device, whose ceilings it draws".into()));
        }
        let runtime = if common.on_cpu() { None } else { Some(common.runtime()?) };
        let ceilings = runtime.as_ref().map_or(Ok(Ceilings::default()), |r| self.ceilings(r))?;
        let cases = self.measure(common, runtime.as_ref(), &formats, &shapes, &options)?;
        let printed = table(&cases, ceilings.copy, earlier.as_ref()).print(common.style);
        let drawn = self.draw(&cases, runtime.as_ref(), &ceilings);
        let passed = cases.iter().all(|case| case.comparison.passed);
        Verdict::of(passed, [printed, drawn])
    }

    fn shapes(&self) -> Vec<Shape> {
        match self.shapes.is_empty() {
            true => self.m.0.iter().flat_map(|&m| self.k.0.iter().map(move |&k| Shape { m, k })).collect(),
            false => self.shapes.clone(),
        }
    }

    fn ceilings(&self, runtime: &Runtime) -> Result<Ceilings> {
        let seconds = self.seconds.min(PEAK_SECONDS);
        Ok(match self.svg {
            None => Ceilings { copy: Some(runtime.copy_gb_per_s(seconds)?), peak: None },
            Some(_) => {
                let peak = runtime.peak(seconds)?;
                Ceilings { copy: Some(peak.copy_gb_per_s()), peak: Some(peak) }
            }
        })
    }

    fn measure(
        &self,
        common: &Common,
        runtime: Option<&Runtime>,
        formats: &[&'static Format],
        shapes: &[Shape],
        options: &MatmulOptions,
    ) -> Result<Vec<Measured>> {
        let bar = progress::bar((formats.len() * shapes.len()) as u64, common.quiet);
        let mut cases = vec![];
        for format in formats {
            for Shape { m, k } in shapes {
                let name = format!("{} {m} x {k}", format.name);
                bar.set_message(name.clone());
                let packed = check::random_tensor(name, format, *m, *k, common.seed)?;
                cases.append(&mut match runtime {
                    Some(runtime) => self.shape(common, runtime, &packed, options)?,
                    None => self.reference(common, &packed)?,
                });
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(cases)
    }

    fn draw(&self, cases: &[Measured], runtime: Option<&Runtime>, ceilings: &Ceilings) -> Result<()> {
        if let (Some(path), Some(runtime), Some(peak)) = (&self.svg, runtime, &ceilings.peak) {
            pictures::write(path, &pictures::roofline(cases, peak, runtime.adapter()))?;
        }
        if let Some(path) = &self.plot {
            let device = runtime.map_or("the CPU reference", |r| &r.adapter().name);
            pictures::write(path, &pictures::growth(cases, device))?;
        }
        Ok(())
    }

    /// Bytes of copies that are used in turn.
    fn footprint(&self, runtime: &Runtime) -> u64 {
        const GPU: u64 = 600 << 20;
        let of_cache = gpu::last_level_cache().filter(|_| runtime.caps().software).map(|cache| cache / 2 * 5);
        self.footprint.map_or(of_cache.unwrap_or(GPU), |mib| mib.saturating_mul(1 << 20))
    }

    /// One weight, one case per batch size.
    fn shape(
        &self,
        common: &Common,
        runtime: &Runtime,
        packed: &PackedTensor,
        options: &MatmulOptions,
    ) -> Result<Vec<Measured>> {
        let bytes = packed.data().len() as u64;
        let copies = (self.footprint(runtime).div_ceil(bytes.max(1)) as usize).clamp(1, 256);
        let smallest = self.n.0.iter().copied().min().unwrap_or(1);
        let uploads = if smallest < COMPUTE_BOUND { copies } else { 1 };
        let weights: Vec<Weights> = (0..uploads).map(|_| runtime.upload(packed)).collect::<Result<_>>()?;
        let one = |&n: &usize| {
            let used = if n < COMPUTE_BOUND { &weights[..] } else { &weights[..1] };
            let x = self.activations(packed.cols(), n, options.activations, common.seed);
            let sample = (CHECK_ROWS, common.seed);
            let comparison = check::sampled(runtime, packed, &weights[0], &x, options, sample)?;
            let timing = runtime.time_matmul_of(used, &x, options, self.seconds)?;
            Ok(Measured {
                activations: options.activations,
                kernel: runtime.kernels(&weights[0], n, options)?,
                copies: used.len(),
                host_seconds: Some(runtime.time_host(&weights[0], n, options)?),
                ..case(packed, n, timing, comparison)
            })
        };
        self.n.0.iter().map(one).collect()
    }

    /// Normal numbers; for LLM.int8 below 6, but for `outliers` of the features, spread evenly.
    fn activations(&self, k: usize, n: usize, activations: Activations, seed: u64) -> Vec<f32> {
        let mut x = check::activations(n * k, seed);
        if let Activations::Int8(_) = activations {
            x.iter_mut().for_each(|x| *x = x.clamp(-5.9, 5.9));
            let count = (k as f64 * self.outliers.clamp(0.0, 1.0)).round() as usize;
            (0..count).for_each(|i| x[i % n * k + i * k / count] = 8.0);
        }
        x
    }

    /// One weight on the reference path, which is its own check.
    fn reference(&self, common: &Common, packed: &PackedTensor) -> Result<Vec<Measured>> {
        let one = |&n: &usize| {
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
            Ok(case(packed, n, timing, check::Comparison::nothing()))
        };
        self.n.0.iter().map(one).collect()
    }
}

/// Refuses sizes that no machine holds and columns that the format cannot have, before anything is
/// allocated.
pub(super) fn check_size(format: &Format, m: usize, k: usize, n: usize) -> Result<()> {
    const MOST: u64 = 64 << 30;
    let block = format.block_weights();
    if !k.is_multiple_of(block) {
        return Err(Error::Argument(format!("{} needs columns divisible by {block}, got {k}", format.name)));
    }
    let n = n as u64;
    // As f32, which is what the check holds.
    let row = (k as u64).saturating_mul(4);
    let largest = row.max(n.saturating_mul(4)).saturating_mul(m as u64);
    match largest.max(n.saturating_mul(4).saturating_mul(k as u64)) {
        bytes if bytes > MOST => {
            Err(Error::Argument(format!("m = {m}, k = {k}, n = {n} need {bytes} bytes, more than {MOST}")))
        }
        _ => Ok(()),
    }
}

/// A case on the reference path.
fn case(packed: &PackedTensor, n: usize, timing: Timing, comparison: Comparison) -> Measured {
    Measured {
        format: packed.format().name,
        m: packed.rows(),
        k: packed.cols(),
        n,
        activations: Activations::F32,
        packed: packed.data().len() as u64,
        kernel: "reference".into(),
        copies: 1,
        timing,
        host_seconds: None,
        comparison,
    }
}

fn table(cases: &[Measured], copy: Option<f64>, earlier: Option<&Earlier>) -> Table {
    let compared = if earlier.is_some() { compare::HEADERS } else { &[] };
    let mut table = Table::new(&[measured::HEADERS, compared].concat());
    for case in cases {
        let mut cells = case.cells(copy);
        cells.extend(earlier.iter().flat_map(|earlier| earlier.cells(case)));
        table.push(cells);
    }
    table
}

/// The formats of a list, or all that activations of this kind can be multiplied by.
pub(super) fn formats(types: &str, activations: Activations) -> Result<Vec<&'static Format>> {
    if types.eq_ignore_ascii_case("all") {
        let suits = |f: &&Format| activations.suit_format(f);
        return Ok(FORMATS.iter().copied().filter(suits).collect());
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
    let Some(kernel) = kernel else { return common.options(None) };
    let (name, variant) = kernel.split_once(':').map_or((kernel, None), |(k, v)| (k, Some(v.to_owned())));
    Ok(MatmulOptions { kernel: Some(by_name(name)?), variant, ..common.options(None)? })
}

fn by_name(name: &str) -> Result<&'static Kernel> {
    kernel::by_name(name)
        .filter(|k| k.operation == kernel::Operation::Matmul)
        .ok_or_else(|| Error::Argument(format!("no matmul kernel is called `{name}`")))
}
