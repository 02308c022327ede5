//! `qmatmul tune`: which kernel is the fastest here, measured once and remembered.

use super::list::List;
use super::options::{Common, Device, Numbers, Output, Seed, formats};
use super::output::Results;
use super::{Ending, bench, interrupt, peak, progress};
use qmatmul::check::random_tensor;
use qmatmul::error::{Error, Result};
use qmatmul::file::Model;
use qmatmul::format::Format;
use qmatmul::gpu::{self, MemorySpeed, Runtime};
use qmatmul::kernel::Problem;
use qmatmul::tensor::PackedTensor;
use qmatmul::tune::{Effort, Search, Stop, Subject, Trial};
use qmatmul_report::{Cell, Column, Verdict, column, counted, machine};
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Tune {
    /// A model, for whose matrices kernels are tried
    #[arg(conflicts_with_all = ["types", "m", "k"])]
    file: Option<PathBuf>,
    /// Formats, comma separated, or `all`
    #[arg(short, value_name = "TYPES", default_value = "q4_0", value_parser = formats(), hide_possible_values = true)]
    types: String,
    /// Rows of the weight (outputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    m: List,
    /// Columns of the weight (inputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    k: List,
    /// Batch sizes [default: 1; with FILE 1,8,512]
    #[arg(short, value_name = "LIST")]
    n: Option<List>,
    /// Seconds for each candidate, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0.1)]
    seconds: f64,
    /// Seconds for everything [default: no limit; with FILE 60]
    #[arg(long, value_name = "SECONDS")]
    budget: Option<f64>,
    /// Print what was chosen before, and measure nothing
    #[arg(long, conflicts_with_all = ["clear", "file", "types", "m", "k", "n", "seconds", "budget", "seed", "activations", "int8_threshold"])]
    list: bool,
    /// Forget what was chosen before
    #[arg(long, conflicts_with_all = ["file", "types", "m", "k", "n", "seconds", "budget", "seed", "activations", "int8_threshold"])]
    clear: bool,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    output: Output,
}

const COLUMNS: &[Column] = &[
    column("format", "format"),
    column("activations", "activations"),
    machine("op"),
    column("m", "m"),
    column("k", "k"),
    column("n", "n"),
    column("kernel", "kernel"),
    column("variant", "variant"),
    machine("order"),
    column("median_us", "µs"),
    column("ratio", "ratio"),
    column("weight_gb_per_s", "GB/s"),
    machine("copy_fraction"),
    machine("tflop_per_s"),
    machine("host_us"),
    machine("nmse"),
    column("chosen", "chosen"),
    column("ok", "result"),
    column("problem", "problem"),
];

/// A matmul that kernels are tried on.
struct Case {
    format: &'static str,
    activations: &'static str,
    problem: Problem,
    packed_bytes: f64,
    memory: MemorySpeed,
}

/// A weight, which is made when its turn comes, and the batch sizes to try it with.
struct Weight {
    format: &'static Format,
    m: usize,
    k: usize,
    /// The tensor of the model that it is; without a model it is random.
    tensor: Option<String>,
    batches: Vec<usize>,
}

/// What came out of all cases.
#[derive(Default)]
struct Tuned {
    cases: usize,
    candidates: usize,
    /// Candidates that were not tried, as one that was reaches what the memory allows.
    beyond: usize,
    /// Cases of which not all candidates were tried for want of time.
    hurried: usize,
    /// Cases that no kernel is right for.
    without: usize,
}

/// Batch sizes: one token, and with a model few and many as well.
const BATCHES: &[usize] = &[1];
const BATCHES_OF_MODEL: &[usize] = &[1, 8, 512];
/// Seconds for a model.
const BUDGET_OF_MODEL: f64 = 60.0;
/// Seconds for each figure of the memory, at most.
const MEMORY_SECONDS: f64 = 0.3;

impl Tune {
    pub fn run(&self) -> Result<Ending> {
        let common = Common {
            device: self.device.clone(),
            numbers: self.numbers.clone(),
            seed: self.seed.seed,
            output: self.output.clone(),
            ..Common::default()
        };
        peak::seconds(self.seconds)?;
        self.budget.map_or(Ok(()), peak::seconds)?;
        let model = self.file.as_ref().map(|file| common.open(file)).transpose()?;
        let weights = match &model {
            Some(model) => self.of_model(&common, model)?,
            None => self.random(&common)?,
        };
        let runtime = common.runtime()?;
        let mut results = Results::begin(&self.output, Some(runtime.adapter()), COLUMNS)?;
        if let Some(path) = runtime.tuning().path().filter(|_| !self.clear) {
            common.say(&format!("choices: {}", path.display()));
        }
        if self.clear {
            runtime.tuning().clear()?;
            results.end(&Verdict::ok("nothing is remembered for this device"))?;
            return Ok(Ending::Fine);
        }
        if self.list {
            let rows = listed(&runtime);
            let text = format!("{} remembered for this device", counted(rows.len(), "choice"));
            rows.into_iter().try_for_each(|row| results.row(row))?;
            results.end(&Verdict::ok(text))?;
            return Ok(Ending::Fine);
        }
        interrupt::stop_at_steps();
        let mut tuned = Tuned::default();
        let run = Run { common: &common, runtime: &runtime, model: model.as_ref(), tune: self };
        let measured = run.measure(&weights, (&mut results, &mut tuned));
        let text = tuned.verdict(measured.is_err(), self.budget());
        let is_wrong = tuned.without > 0 || measured.is_err();
        let (checks, is_interrupted) = (Some(tuned.candidates), interrupt::is_requested());
        // What was measured before an error is chosen from then on.
        let ended = results.end(&Verdict { is_wrong, is_interrupted, checks, ..Verdict::ok(text) });
        Ending::of(tuned.without == 0, [measured, ended])
    }

    /// Seconds for everything.
    fn budget(&self) -> Option<f64> {
        self.budget.or(self.file.is_some().then_some(BUDGET_OF_MODEL))
    }

    fn batches(&self) -> &[usize] {
        let usual = if self.file.is_some() { BATCHES_OF_MODEL } else { BATCHES };
        self.n.as_ref().map_or(usual, |list| &list.0)
    }

    /// Formats and their sizes, which are looked at before anything is measured.
    fn random(&self, common: &Common) -> Result<Vec<Weight>> {
        let formats = bench::formats(&self.types, common.numbers.activations)?;
        let pairs = || self.m.0.iter().flat_map(|m| self.k.0.iter().map(move |k| (*m, *k)));
        let weight = |format, (m, k)| Weight { format, m, k, tensor: None, batches: self.batches().to_vec() };
        let weights: Vec<_> =
            formats.iter().flat_map(|format| pairs().map(move |pair| weight(*format, pair))).collect();
        self.check_sizes(&weights)?;
        Ok(weights)
    }

    /// Every kind of matrix that a token of the model is multiplied by. Of those that share a
    /// choice the one that tokens read most of is tried. Stacks of experts and formats that cannot
    /// take the activations are left out.
    fn of_model(&self, common: &Common, model: &Model) -> Result<Vec<Weight>> {
        let activations = common.activations(Some(model))?.of_kernels();
        let mut products = model.products();
        let all = products.len();
        products.retain(|product| product.experts == 1);
        let stacks = all - products.len();
        products.sort_by_key(|product| {
            std::cmp::Reverse(product.per_token().saturating_mul(product.m.saturating_mul(product.k)))
        });
        let (mut weights, mut seen, mut unsuited) = (Vec::<Weight>::new(), vec![], 0);
        for product in products {
            let Some(format) = product.tensor.dtype.format() else { continue };
            if !activations.suit_format(format) {
                unsuited += 1;
                continue;
            }
            let size = |n: u64| usize::try_from(n).map_err(|_| Error::Argument(format!("{n} is too large")));
            let (m, k) = (size(product.m)?, size(product.k)?);
            let is_new = |n: &usize| {
                let problem = Problem { activations, ..Problem::of(&format.layout(k), m, k, *n) };
                let class = gpu::Tuned::class(format, &problem);
                !seen.contains(&class) && {
                    seen.push(class);
                    true
                }
            };
            let batches: Vec<_> = self.batches().iter().copied().filter(is_new).collect();
            if !batches.is_empty() {
                weights.push(Weight { format, m, k, tensor: Some(product.tensor.name.clone()), batches });
            }
        }
        if stacks > 0 {
            common.say(&format!("left out: {} of experts", counted(stacks, "stack")));
        }
        if unsuited > 0 {
            let (shapes, kind) = (counted(unsuited, "shape"), activations.name());
            common.say(&format!("left out: {shapes} in formats that cannot take {kind} activations"));
        }
        if weights.is_empty() {
            let file = model.path().display();
            return Err(Error::Argument(format!("{file} holds no matrix to try kernels on")));
        }
        self.check_sizes(&weights)?;
        Ok(weights)
    }

    fn check_sizes(&self, weights: &[Weight]) -> Result<()> {
        let most = self.batches().iter().copied().max().unwrap_or(1);
        weights.iter().try_for_each(|w| bench::check_size(w.format, w.m, w.k, most))
    }
}

/// What all cases of a run have in common.
struct Run<'a> {
    common: &'a Common,
    runtime: &'a Runtime,
    model: Option<&'a Model>,
    tune: &'a Tune,
}

impl Run<'_> {
    /// Prints what is measured, case by case.
    fn measure(&self, weights: &[Weight], (results, tuned): (&mut Results, &mut Tuned)) -> Result<()> {
        let (start, budget) = (Instant::now(), self.tune.budget());
        let memory = self.runtime.memory_gb_per_s(self.tune.seconds.min(MEMORY_SECONDS))?;
        let mut cases_left: usize = weights.iter().map(|weight| weight.batches.len()).sum();
        let bar = progress::bar(cases_left as u64, self.common.output.quiet);
        let effort = Effort {
            seconds: self.tune.seconds,
            seed: self.common.seed,
            memory_gb_per_s: Some(memory.best_gb_per_s()),
            ..Effort::default()
        };
        for weight in weights.iter().take_while(|_| !interrupt::is_requested()) {
            let Weight { format, m, k, batches, .. } = weight;
            let packed = self.packed(weight)?;
            let subject = Subject::new(self.runtime, &packed, &effort)?;
            for n in batches.iter().take_while(|_| !interrupt::is_requested()) {
                bar.set_message(format!("{} {m} x {k}, n = {n}", format.name));
                // What earlier cases did not need is there for the later ones.
                let share =
                    |seconds: f64| (seconds - start.elapsed().as_secs_f64()).max(0.0) / cases_left as f64;
                let effort = Effort { budget: budget.map(share), ..effort };
                let activations = self.common.activations(self.model)?.of_kernels();
                let problem = Problem { activations, ..Problem::of(&packed.layout(), *m, *k, *n) };
                let search = subject.tune(&problem, &effort)?;
                tuned.add(&search);
                let case = Case {
                    format: format.name,
                    activations: self.common.numbers.activations.name(),
                    problem,
                    packed_bytes: packed.data().len() as f64,
                    memory,
                };
                case.rows(search.trials).into_iter().try_for_each(|row| results.row(row))?;
                results.section();
                cases_left -= 1;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The tensor of the model, or random weights.
    fn packed(&self, weight: &Weight) -> Result<PackedTensor> {
        let Weight { format, m, k, .. } = *weight;
        match (self.model, &weight.tensor) {
            (Some(model), Some(tensor)) => model.rows(model.find(tensor)?, 0..m as u64),
            _ => random_tensor(format!("{} to tune", format.name), format, m, k, self.common.seed),
        }
    }
}

impl Tuned {
    fn add(&mut self, search: &Search) {
        self.cases += 1;
        self.candidates += search.trials.len();
        self.without += usize::from(search.chosen().is_none());
        match search.stop {
            Some(Stop::Memory) => self.beyond += search.left_out,
            Some(_) => self.hurried += 1,
            None => {}
        }
    }

    fn verdict(&self, failed: bool, budget: Option<f64>) -> String {
        let Self { cases, candidates, beyond, hurried, without } = *self;
        match (without, budget) {
            _ if failed => format!("ended by an error after {}", counted(cases, "case")),
            (1.., _) => format!("no kernel is right for {without} of {cases} cases"),
            (0, Some(budget)) if hurried > 0 => {
                format!(
                    "{candidates} candidates measured in {budget} s, too few for {hurried} of {cases} choices"
                )
            }
            _ => {
                let choices = counted(cases, "choice");
                let more = if beyond > 0 { format!(", {beyond} needless") } else { String::new() };
                format!("{candidates} candidates measured{more}, {choices} remembered for this device")
            }
        }
    }
}

impl Case {
    /// A multiplication and an addition are two.
    fn flops(&self) -> f64 {
        2.0 * self.problem.rows as f64 * self.problem.cols as f64 * self.problem.batch as f64
    }

    /// The fastest first, each with its time as a multiple of that; what failed comes last.
    fn rows(&self, trials: Vec<Trial>) -> Vec<Vec<Cell>> {
        let mut trials: Vec<_> = trials.into_iter().enumerate().collect();
        trials.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        let best = trials.iter().find(|(_, t)| t.failure.is_none()).map_or(f64::NAN, |(_, t)| t.seconds);
        let row = |(order, trial): (usize, Trial)| {
            let (kernel, variant) = split(&trial.kernel);
            let ok = trial.failure.is_none();
            let measured = |value: f64, decimals| if ok { Cell::Float(value, decimals) } else { Cell::Empty };
            vec![
                self.format.into(),
                Cell::usual(self.activations, self.activations == "f32", self.activations),
                if self.problem.batch == 1 { "gemv" } else { "gemm" }.into(),
                self.problem.rows.into(),
                self.problem.cols.into(),
                self.problem.batch.into(),
                kernel.into(),
                variant.into(),
                order.into(),
                measured(trial.seconds * 1e6, 1),
                measured(trial.seconds / best, 2),
                measured(self.packed_bytes / trial.seconds * 1e-9, 2),
                measured(self.packed_bytes / trial.seconds * 1e-9 / self.memory.copy_gb_per_s, 3),
                measured(self.flops() / trial.seconds * 1e-12, 4),
                Cell::Empty,
                Cell::Empty,
                Cell::usual(trial.chosen, !trial.chosen, "yes"),
                Cell::Right(ok),
                trial.failure.into(),
            ]
        };
        trials.into_iter().map(row).collect()
    }
}

/// `gemv:4x64` as kernel and variant.
fn split(kernel: &str) -> (&str, Option<&str>) {
    kernel.split_once(':').map_or((kernel, None), |(kernel, variant)| (kernel, Some(variant)))
}

/// The choices of before.
fn listed(runtime: &Runtime) -> Vec<Vec<Cell>> {
    let row = |t: qmatmul::gpu::Tuned| {
        let (kernel, variant) = split(&t.kernel);
        vec![
            t.format.clone().into(),
            Cell::usual(t.activations.clone(), t.activations == "f32", &t.activations),
            if t.n == 1 { "gemv" } else { "gemm" }.into(),
            t.m.into(),
            t.k.into(),
            t.n.into(),
            kernel.into(),
            variant.into(),
            Cell::Empty,
            Cell::Float(t.micros, 1),
            Cell::Empty,
            Cell::Empty,
            Cell::Empty,
            Cell::Empty,
            Cell::Empty,
            Cell::Empty,
            Cell::usual(true, true, ""),
            Cell::usual(true, true, ""),
            Cell::Empty,
        ]
    };
    runtime.tuning().list().into_iter().map(row).collect()
}
