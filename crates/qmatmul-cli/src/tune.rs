//! `qmatmul tune`: which kernel is the fastest here, measured once and remembered.

use super::list::List;
use super::options::{Common, Device, Numbers, Output, Seed, formats};
use super::output::Results;
use super::{Ending, bench, interrupt, peak, progress};
use qmatmul::error::Result;
use qmatmul::format::Format;
use qmatmul::gpu::Runtime;
use qmatmul::kernel::Problem;
use qmatmul::tune::{self, Effort, Trial};
use qmatmul_report::{Cell, Column, Verdict, column, counted, machine};

#[derive(clap::Args)]
pub struct Tune {
    /// Formats, comma separated, or `all`
    #[arg(short, value_name = "TYPES", default_value = "q4_0", value_parser = formats(), hide_possible_values = true)]
    types: String,
    /// Rows of the weight (outputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    m: List,
    /// Columns of the weight (inputs)
    #[arg(short, value_name = "LIST", default_value = "4096")]
    k: List,
    /// Batch sizes
    #[arg(short, value_name = "LIST", default_value = "1")]
    n: List,
    /// Seconds for each candidate
    #[arg(long, value_name = "SECONDS", default_value_t = 0.1)]
    seconds: f64,
    /// Print what was chosen before, and measure nothing
    #[arg(long, conflicts_with_all = ["clear", "types", "m", "k", "n", "seconds", "seed", "activations", "int8_threshold"])]
    list: bool,
    /// Forget what was chosen before
    #[arg(long, conflicts_with_all = ["types", "m", "k", "n", "seconds", "seed", "activations", "int8_threshold"])]
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
}

/// What came out of all cases.
#[derive(Default)]
struct Tuned {
    cases: usize,
    candidates: usize,
    /// Cases that no kernel is right for.
    without: usize,
}

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
        let cases = self.cases(&common)?;
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
        let measured = self.measure(&common, &runtime, cases, (&mut results, &mut tuned));
        let Tuned { cases, candidates, without } = tuned;
        let text = match (without, measured.is_err()) {
            (_, true) => format!("ended by an error after {}", counted(cases, "case")),
            (0, _) => {
                let choices = counted(cases, "choice");
                format!("{candidates} candidates measured, {choices} remembered for this device")
            }
            _ => format!("no kernel is right for {without} of {cases} cases"),
        };
        let (is_wrong, is_interrupted) = (without > 0 || measured.is_err(), interrupt::is_requested());
        // What was measured before an error is chosen from then on.
        let ended =
            results.end(&Verdict { is_wrong, is_interrupted, checks: Some(candidates), ..Verdict::ok(text) });
        Ending::of(without == 0, [measured, ended])
    }

    /// All cases: formats and their sizes, which are looked at before anything is measured.
    fn cases(&self, common: &Common) -> Result<Vec<(&'static Format, [usize; 3])>> {
        let formats = bench::formats(&self.types, common.numbers.activations)?;
        let pairs = || self.m.0.iter().flat_map(|m| self.k.0.iter().map(move |k| (*m, *k)));
        let sizes = || pairs().flat_map(|(m, k)| self.n.0.iter().map(move |n| [m, k, *n]));
        let cases: Vec<_> =
            formats.iter().flat_map(|format| sizes().map(move |size| (*format, size))).collect();
        cases.iter().try_for_each(|(format, [m, k, n])| bench::check_size(format, *m, *k, *n))?;
        Ok(cases)
    }

    /// Prints what is measured, case by case.
    fn measure(
        &self,
        common: &Common,
        runtime: &Runtime,
        cases: Vec<(&'static Format, [usize; 3])>,
        (results, tuned): (&mut Results, &mut Tuned),
    ) -> Result<()> {
        let bar = progress::bar(cases.len() as u64, common.output.quiet);
        let effort = Effort { seconds: self.seconds, seed: common.seed, ..Effort::default() };
        for (format, [m, k, n]) in cases.into_iter().take_while(|_| !interrupt::is_requested()) {
            bar.set_message(format!("{} {m} x {k}, n = {n}", format.name));
            let layout = format.layout(k);
            let activations = common.activations(None)?.of_kernels();
            let problem = Problem { activations, ..Problem::of(&layout, m, k, n) };
            let trials = tune::tune(runtime, format, &problem, &effort)?;
            tuned.cases += 1;
            tuned.candidates += trials.len();
            tuned.without += usize::from(!trials.iter().any(|trial| trial.chosen));
            let packed_bytes = format.bits_per_weight() / 8.0 * (m * k) as f64;
            let activations = common.numbers.activations.name();
            let case = Case { format: format.name, activations, problem, packed_bytes };
            case.rows(trials).into_iter().try_for_each(|row| results.row(row))?;
            results.section();
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
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
                Cell::Empty,
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
