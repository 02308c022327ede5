//! `qmatmul tune`: which kernel is the fastest here, measured once and remembered.

use super::list::List;
use super::output::{Cell, Table};
use super::{Common, Verdict, bench, progress};
use qmatmul::error::Result;
use qmatmul::gpu::Runtime;
use qmatmul::kernel::Problem;
use qmatmul::tune::{self, Effort};

#[derive(clap::Args)]
pub struct Tune {
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
    /// Seconds for each candidate
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// Print what was chosen before, and measure nothing
    #[arg(long, conflicts_with = "clear")]
    list: bool,
    /// Forget what was chosen before
    #[arg(long)]
    clear: bool,
}

impl Tune {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let runtime = common.runtime()?;
        let mut verdict = Verdict::Fine;
        if self.clear {
            runtime.tuning().clear()?;
        } else if self.list {
            list(&runtime).print(common.style)?;
        } else {
            let (mut table, mut all_chosen) = (Table::new(COLUMNS), true);
            let measured = self.measure(common, &runtime, &mut table, &mut all_chosen);
            // What was measured before an error is chosen from then on.
            verdict = Verdict::of(all_chosen, [measured, table.print(common.style)])?;
        }
        if let (Some(path), false) = (runtime.tuning().path(), self.clear) {
            common.say(&format!("choices: {}", path.display()));
        }
        Ok(verdict)
    }

    /// Adds what was measured to the table; `all_chosen` stays true if there is a kernel that is
    /// right for each case.
    fn measure(
        &self,
        common: &Common,
        runtime: &Runtime,
        table: &mut Table,
        all_chosen: &mut bool,
    ) -> Result<()> {
        let formats = bench::formats(&self.types, common.activations)?;
        let cases = formats.len() * self.m.0.len() * self.k.0.len() * self.n.0.len();
        let bar = progress::bar(cases as u64, common.quiet);
        let effort =
            Effort { seconds: self.seconds.clamp(0.0, 60.0), seed: common.seed, ..Effort::default() };
        for format in formats {
            for (&m, &k, &n) in self
                .m
                .0
                .iter()
                .flat_map(|m| self.k.0.iter().flat_map(move |k| self.n.0.iter().map(move |n| (m, k, n))))
            {
                bench::check_size(format, m, k, n)?;
                bar.set_message(format!("{} {m} x {k}, n = {n}", format.name));
                let activations = common.activations.of_kernels();
                let request = Problem { activations, ..Problem::of(&format.layout(k), m, k, n) };
                let trials = tune::tune(runtime, format, &request, &effort)?;
                *all_chosen &= trials.iter().any(|trial| trial.chosen);
                for trial in trials {
                    table.push(vec![
                        format.name.into(),
                        common.activations.name().into(),
                        m.into(),
                        k.into(),
                        n.into(),
                        trial.kernel.into(),
                        match trial.failure {
                            None => Cell::Float(trial.seconds * 1e6, 1),
                            Some(_) => Cell::Empty,
                        },
                        if trial.chosen { "yes" } else { "" }.into(),
                        trial.failure.unwrap_or_else(|| "ok".into()).into(),
                    ]);
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

const COLUMNS: &[&str] = &["type", "activations", "m", "k", "n", "kernel", "µs", "chosen", "result"];

/// The choices of before.
fn list(runtime: &Runtime) -> Table {
    let mut table = Table::new(&["type", "activations", "m", "k", "n", "kernel", "µs"]);
    for t in runtime.tuning().list() {
        table.push(vec![
            t.format.into(),
            t.activations.into(),
            t.m.into(),
            t.k.into(),
            t.n.into(),
            t.kernel.into(),
            Cell::Float(t.micros, 1),
        ]);
    }
    table
}
