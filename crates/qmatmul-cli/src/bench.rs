//! `qmatmul bench`: the result is checked first, then timed.

use super::compare::{Earlier, Key};
use super::list::List;
use super::options::{
    Common, Device, Kernels, Numbers, Output, Seed, formats as known_formats, output_file, refuse_given,
};
use super::output::Results;
use super::{Ending, interrupt, peak, progress};
use qmatmul::check::{self, Comparison};
use qmatmul::error::{Error, Result, shown};
use qmatmul::file::{Model, Product, output};
use qmatmul::format::{self, FORMATS, Format};
use qmatmul::gpu::{self, Peak, Runtime, Timing, Weights};
use qmatmul::kernel::{self, Activations, Kernel, MatmulOptions, reference};
use qmatmul::tensor::PackedTensor;
use qmatmul_report::chart::Chart;
use qmatmul_report::measured::{self, Beside, Measured, whole_model};
use qmatmul_report::pictures;
use qmatmul_report::{Verdict, counted};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Bench {
    /// A model, whose matrices are measured
    #[arg(conflicts_with_all = ["types", "m", "k", "shapes"])]
    file: Option<PathBuf>,
    /// Formats, comma separated, or `all`
    #[arg(short, value_name = "TYPES", default_value = "q4_0", value_parser = known_formats(), hide_possible_values = true)]
    types: String,
    /// Rows of the weight (outputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    m: List,
    /// Columns of the weight (inputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    k: List,
    /// Pairs of m and k, as in 4096x14336,14336x4096
    #[arg(long, value_name = "MxK", value_delimiter = ',', conflicts_with_all = ["m", "k"])]
    shapes: Vec<Shape>,
    /// Batch sizes
    #[arg(short, value_name = "LIST", default_value = "1")]
    n: List,
    /// Kernel in place of the device's, as in gemv:4x64
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// Share of outliers with int8 [default: 0.005]
    #[arg(long, value_name = "SHARE")]
    outliers: Option<f64>,
    /// Seconds for each row
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Memory of the copies, so that no cache holds them
    #[arg(long, value_name = "MIB")]
    footprint: Option<u64>,
    /// How many times as fast as in an earlier output
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Draw the cases under the device's ceilings
    #[arg(long, value_name = "FILE.svg", value_parser = output_file)]
    svg: Option<PathBuf>,
    /// Draw time against m·k
    #[arg(long, value_name = "FILE.svg", value_parser = output_file)]
    plot: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    kernels: Kernels,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    output: Output,
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
/// Share of features that are outliers, as in the models that LLM.int8 is for.
const OUTLIERS: f64 = 0.005;
/// Seconds for the copy bandwidth, and for each figure of the ceilings of a roofline, at most.
const PEAK_SECONDS: f64 = 0.3;

/// The device's ceilings, as far as this run needs them.
#[derive(Default)]
struct Ceilings {
    copy: Option<f64>,
    peak: Option<Peak>,
}

/// A weight to be measured, which is made when its turn comes.
struct Weight {
    name: String,
    format: &'static Format,
    shape: Shape,
    /// How many such matrices a token of the model is multiplied by; none without a model.
    count: Option<u64>,
    /// The tensor of the model that stands for all of them.
    tensor: Option<String>,
}

/// What is called with a case as soon as it is measured.
type Known<'a> = dyn FnMut(Measured) -> Result<()> + 'a;

/// What all cases of a run have in common.
struct Run<'a> {
    common: &'a Common,
    runtime: Option<&'a Runtime>,
    model: Option<&'a Model>,
    options: MatmulOptions,
    earlier: Option<&'a Earlier>,
    copy: Option<f64>,
}

impl Bench {
    pub fn run(&self) -> Result<Ending> {
        let common = &self.common();
        peak::seconds(self.seconds)?;
        if !matches!(common.numbers.activations, Activations::Int8(_)) {
            refuse_given(&[("--outliers", self.outliers.is_some())], "without `--activations int8`")?;
        }
        if let Some(share) = self.outliers.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Error::Argument(format!("--outliers {share} is not between 0 and 1")));
        }
        let on_cpu = common.on_cpu()?;
        if on_cpu {
            self.refuse_on_cpu(common)?;
        }
        let model = self.file.as_ref().map(|file| common.open(file)).transpose()?;
        self.probe_pictures(model.as_ref())?;
        let weights = match &model {
            Some(model) => self.of_model(model)?,
            None => self.random(common)?,
        };
        let options = options(common, model.as_ref(), self.kernel.as_deref())?;
        refuse_activations(&weights, options.activations)?;
        let earlier = self.compare.as_deref().map(Earlier::read).transpose()?;
        if let Some(earlier) = &earlier {
            self.say_earlier(common, earlier, &weights, options.activations)?;
        }
        let runtime = if on_cpu { None } else { Some(common.runtime()?) };
        let runtime = runtime.as_ref();
        interrupt::stop_at_steps();
        let ceilings = runtime.map_or(Ok(Ceilings::default()), |r| self.ceilings(r))?;
        let run = Run {
            common,
            runtime,
            model: model.as_ref(),
            options,
            earlier: earlier.as_ref(),
            copy: ceilings.copy,
        };
        let mut results = Results::begin(&self.output, runtime.map(Runtime::adapter), measured::COLUMNS)?;
        let mut measured = vec![];
        let ended = self.measure(&run, &weights, (&mut results, &mut measured));
        let is_whole = ended.is_ok() && !interrupt::is_requested();
        // A part of a model has no rate.
        let sums = if model.is_some() && is_whole { sums(&weights, &measured) } else { BTreeMap::new() };
        let mut verdict = run.verdict(&weights, &measured, &sums);
        let is_right = !verdict.is_wrong;
        if ended.is_err() {
            verdict.is_wrong = true;
            verdict.text = format!("ended by an error after {}", counted(measured.len(), "case"));
        }
        let rates = run.rates(&sums, &mut results);
        let cases: Vec<Measured> = measured.into_iter().map(|(_, case)| case).collect();
        // No picture of a part takes the place of an older one.
        let drawn = if is_whole { self.draw(&cases, runtime, &ceilings) } else { Ok(()) };
        Ending::of(is_right, [ended, rates.and_then(|()| results.end(&verdict)), drawn])
    }

    /// Refuses what changes nothing on the reference path.
    fn refuse_on_cpu(&self, common: &Common) -> Result<()> {
        let given = [
            ("--svg", self.svg.is_some()),
            ("--kernel", self.kernel.is_some()),
            ("--footprint", self.footprint.is_some()),
            ("--activations", common.numbers.activations != Activations::F32),
        ];
        refuse_given(&given, "with `--device cpu`, the reference")
    }

    /// Fails if pictures cannot be written, or would replace what is read or each other, before
    /// anything is measured.
    fn probe_pictures(&self, model: Option<&Model>) -> Result<()> {
        for picture in [&self.svg, &self.plot].into_iter().flatten() {
            model.map_or(Ok(()), |model| model.refuse_as_output(picture))?;
            output::refuse_input(picture, self.compare.as_deref().into_iter().filter(|file| file.is_file()))?;
            output::probe(picture)?;
        }
        match (&self.svg, &self.plot) {
            (Some(svg), Some(plot)) if svg == plot => {
                let svg = svg.display();
                Err(Error::Argument(format!("--svg and --plot would both write `{svg}`")))
            }
            _ => Ok(()),
        }
    }

    fn common(&self) -> Common {
        Common {
            device: self.device.clone(),
            kernels: self.kernels.clone(),
            numbers: self.numbers.clone(),
            seed: self.seed.seed,
            output: self.output.clone(),
            ..Common::default()
        }
    }

    /// Every format with every shape, of random numbers.
    fn random(&self, common: &Common) -> Result<Vec<Weight>> {
        let formats = formats(&self.types, common.numbers.activations)?;
        let shapes = match self.shapes.is_empty() {
            true => self.m.0.iter().flat_map(|&m| self.k.0.iter().map(move |&k| Shape { m, k })).collect(),
            false => self.shapes.clone(),
        };
        let most = self.n.0.iter().copied().max().unwrap_or(1);
        let weight = |(format, shape): (&'static Format, Shape)| {
            check_size(format, shape.m, shape.k, most)?;
            let name = format!("{} {} x {}", format.name, shape.m, shape.k);
            Ok(Weight { name, format, shape, count: None, tensor: None })
        };
        formats.into_iter().flat_map(|format| shapes.iter().map(move |s| (format, *s))).map(weight).collect()
    }

    /// Every kind of matrix that a token of the model is multiplied by, once.
    fn of_model(&self, model: &Model) -> Result<Vec<Weight>> {
        let weight = |product: Product| {
            let format = product.tensor.dtype.format()?;
            let shape = Shape { m: usize::try_from(product.m).ok()?, k: usize::try_from(product.k).ok()? };
            let name = format!("{} {} x {}", format.name, shape.m, shape.k);
            let (count, tensor) = (product.per_token(), product.tensor.name.clone());
            Some(Weight { name, format, shape, count: Some(count), tensor: Some(tensor) })
        };
        let weights: Vec<_> = model.products().into_iter().filter_map(weight).collect();
        let most = self.n.0.iter().copied().max().unwrap_or(1);
        weights.iter().try_for_each(|w: &Weight| check_size(w.format, w.shape.m, w.shape.k, most))?;
        match weights.is_empty() {
            true => {
                let file = model.path().display();
                Err(Error::Argument(format!("{file} holds no matrix in a supported format to multiply")))
            }
            false => Ok(weights),
        }
    }

    /// Says what is compared with what.
    ///
    /// # Errors
    /// [`Error::Argument`] if no case of this run is one of the earlier.
    fn say_earlier(
        &self,
        common: &Common,
        earlier: &Earlier,
        weights: &[Weight],
        activations: Activations,
    ) -> Result<()> {
        let keys = weights.iter().flat_map(|w| self.n.0.iter().map(move |n| key(w, *n, activations)));
        let (found, all) = keys
            .fold((0, 0), |(found, all), key| (found + usize::from(earlier.was_us(&key).is_some()), all + 1));
        if found == 0 {
            let file = self.compare.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
            return Err(Error::Argument(format!(
                "--compare {file}: none of its cases has format, activations, m, k and n of one of these {all}"
            )));
        }
        let origin =
            if earlier.origin.is_empty() { "a run that does not name its device" } else { &earlier.origin };
        common.say(&format!("compared with: {origin}; {found} of {all} cases"));
        Ok(())
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

    /// The cases of all weights, each with the number of its weight, printed as they are known.
    fn measure(
        &self,
        run: &Run,
        weights: &[Weight],
        (results, all): (&mut Results, &mut Vec<(usize, Measured)>),
    ) -> Result<()> {
        let bar = progress::bar(weights.len() as u64, run.common.output.quiet);
        for (i, weight) in weights.iter().enumerate().take_while(|_| !interrupt::is_requested()) {
            bar.set_message(weight.name.clone());
            let packed = run.packed(weight)?;
            let mut known = |case: Measured| {
                results.row(case.cells(&run.beside(weight, &case)))?;
                all.push((i, case));
                Ok(())
            };
            match run.runtime {
                Some(runtime) => self.shape(run.common, runtime, &packed, &run.options, &mut known)?,
                None => self.reference(run.common, &packed, &mut known)?,
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The batch sizes, until the user has enough.
    fn batches(&self) -> impl Iterator<Item = usize> {
        self.n.0.iter().copied().take_while(|_| !interrupt::is_requested())
    }

    fn draw(&self, cases: &[Measured], runtime: Option<&Runtime>, ceilings: &Ceilings) -> Result<()> {
        if let (Some(path), Some(runtime), Some(peak)) = (&self.svg, runtime, &ceilings.peak) {
            write(path, &pictures::roofline(cases, peak, runtime.adapter()))?;
        }
        if let Some(path) = &self.plot {
            let device = runtime.map_or("the CPU reference", |r| &r.adapter().name);
            write(path, &pictures::growth(cases, device))?;
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
        known: &mut Known,
    ) -> Result<()> {
        let bytes = packed.data().len() as u64;
        let copies = (self.footprint(runtime).div_ceil(bytes.max(1)) as usize).clamp(1, 256);
        let smallest = self.n.0.iter().copied().min().unwrap_or(1);
        let uploads = if smallest < COMPUTE_BOUND { copies } else { 1 };
        let weights: Vec<Weights> = (0..uploads).map(|_| runtime.upload(packed)).collect::<Result<_>>()?;
        let mut one = |n: usize| {
            let used = if n < COMPUTE_BOUND { &weights[..] } else { &weights[..1] };
            let x = self.activations(packed.cols(), n, options.activations, common.seed);
            let sample = (CHECK_ROWS, common.seed);
            let comparison = check::sampled(runtime, packed, &weights[0], &x, options, sample)?;
            let timing = runtime.time_matmul_of(used, &x, options, self.seconds)?;
            known(Measured {
                activations: options.activations,
                kernel: runtime.kernels(&weights[0], n, options)?,
                copies: used.len(),
                host_seconds: Some(runtime.time_host(&weights[0], n, options)?),
                ..case(packed, n, timing, comparison)
            })
        };
        self.batches().try_for_each(&mut one)
    }

    /// Normal numbers; for LLM.int8 below 6, but for `outliers` of the features, spread evenly.
    fn activations(&self, k: usize, n: usize, activations: Activations, seed: u64) -> Vec<f32> {
        let mut x = check::activations(n * k, seed);
        if let Activations::Int8(_) = activations {
            x.iter_mut().for_each(|x| *x = x.clamp(-5.9, 5.9));
            let share = self.outliers.unwrap_or(OUTLIERS);
            let count = (k as f64 * share).round() as usize;
            (0..count).for_each(|i| x[i % n * k + i * k / count] = 8.0);
        }
        x
    }

    /// One weight on the reference path, which is its own check.
    fn reference(&self, common: &Common, packed: &PackedTensor, known: &mut Known) -> Result<()> {
        let mut one = |n: usize| {
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
            known(case(packed, n, timing, check::Comparison::nothing()))
        };
        self.batches().try_for_each(&mut one)
    }
}

/// Writes `chart` whole or not at all.
fn write(path: &Path, chart: &Chart) -> Result<()> {
    output::write(path, |sink| sink.put(chart.svg().as_bytes()))
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

impl Run<'_> {
    /// A tensor of the model, one expert of a stack; random numbers without a model.
    fn packed(&self, weight: &Weight) -> Result<PackedTensor> {
        let Shape { m, k } = weight.shape;
        match (self.model, &weight.tensor) {
            (Some(model), Some(tensor)) => model.rows(model.find(tensor)?, 0..m as u64),
            _ => check::random_tensor(weight.name.clone(), weight.format, m, k, self.common.seed),
        }
    }

    fn beside(&self, weight: &Weight, case: &Measured) -> Beside {
        let was_us = self.earlier.and_then(|e| e.was_us(&key(weight, case.n, case.activations)));
        Beside { count: weight.count, copy_gb_per_s: self.copy, was_us }
    }

    /// For each batch size, how long all matrices of the model take.
    fn rates(&self, sums: &Sums, results: &mut Results) -> Result<()> {
        if !sums.is_empty() {
            self.common.say("tokens/s: of the matrices alone, without attention, norms and sampling");
            results.section();
        }
        for (n, sum) in sums {
            results.row(whole_model(*n, sum.seconds, sum.bytes, self.copy))?;
        }
        Ok(())
    }

    fn verdict(&self, weights: &[Weight], measured: &[(usize, Measured)], sums: &Sums) -> Verdict {
        let wrong = measured.iter().filter(|(_, case)| !case.comparison.passed).count();
        let device = self.runtime.map_or("the CPU reference", |r| &r.adapter().name);
        let ratios: Vec<f64> = measured
            .iter()
            .filter_map(|(i, case)| Some(self.beside(&weights[*i], case).was_us? / case.micros()))
            .collect();
        let text = match (wrong, sums.first_key_value()) {
            (1.., _) => format!("{wrong} of {} results", measured.len()),
            (0, _) if !ratios.is_empty() => {
                let mean = ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64;
                let [low, high] = [f64::min, f64::max].map(|pick| ratios.iter().copied().reduce(pick));
                format!(
                    "{:.2} times as fast ({:.2} to {:.2}) in {}",
                    mean.exp(),
                    low.unwrap_or(f64::NAN),
                    high.unwrap_or(f64::NAN),
                    counted(ratios.len(), "case")
                )
            }
            (0, Some((n, sum))) => {
                format!("{:.1} tokens/s by the matrices alone, n = {n}", *n as f64 / sum.seconds)
            }
            (0, None) => counted(measured.len(), "case"),
        };
        let checks = measured.iter().filter(|(_, case)| case.comparison.count > 0).count();
        Verdict {
            is_wrong: wrong > 0,
            is_interrupted: interrupt::is_requested(),
            checks: Some(checks),
            ..Verdict::ok(format!("{text}: {device}"))
        }
    }
}

/// All matrices of a model, one after another.
#[derive(Default)]
struct Sum {
    seconds: f64,
    bytes: u64,
}

/// For each batch size.
type Sums = BTreeMap<usize, Sum>;

fn sums(weights: &[Weight], measured: &[(usize, Measured)]) -> Sums {
    let mut sums = Sums::new();
    for (i, case) in measured {
        let (count, sum) = (weights[*i].count.unwrap_or(1), sums.entry(case.n).or_default());
        sum.seconds += count as f64 * case.timing.median();
        sum.bytes += count * case.packed;
    }
    sums
}

/// Refuses activations that one of the weights cannot take, before anything is measured.
fn refuse_activations(weights: &[Weight], activations: Activations) -> Result<()> {
    match weights.iter().find(|weight| !activations.suit_format(weight.format)) {
        Some(weight) => {
            let (name, kind) = (weight.tensor.as_ref().unwrap_or(&weight.name), activations.name());
            let format = weight.format.name;
            Err(Error::Argument(format!(
                "`{}`: {format} weights cannot take {kind} activations",
                shown(name)
            )))
        }
        None => Ok(()),
    }
}

fn key(weight: &Weight, n: usize, activations: Activations) -> Key {
    Key {
        format: weight.format.name.into(),
        activations: activations.name().into(),
        m: weight.shape.m as u64,
        k: weight.shape.k as u64,
        n: n as u64,
    }
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
fn options(common: &Common, model: Option<&Model>, kernel: Option<&str>) -> Result<MatmulOptions> {
    let options = common.options(model)?;
    let Some(kernel) = kernel else { return Ok(options) };
    let (name, variant) = kernel.split_once(':').map_or((kernel, None), |(k, v)| (k, Some(v.to_owned())));
    Ok(MatmulOptions { kernel: Some(by_name(name)?), variant, ..options })
}

fn by_name(name: &str) -> Result<&'static Kernel> {
    kernel::by_name(name)
        .filter(|k| k.operation == kernel::Operation::Matmul)
        .ok_or_else(|| Error::Argument(format!("no matmul kernel is called `{name}`")))
}
