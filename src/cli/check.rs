//! `qmatmul check [FILE]`

use super::inspect::{glob, select};
use super::list::List;
use super::output::{Cell, Table, plain};
use super::{Common, Verdict, lora, progress};
use crate::check::{self, Outcome};
use crate::error::{Error, Result};
use crate::file::lora::Adapter;
use crate::file::{Model, TensorInfo};
use crate::format::FORMATS;
use crate::gpu::Runtime;
use crate::kernel::Activations;
use crate::tensor::PackedTensor;
use globset::GlobMatcher;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Check {
    /// A model file or checkpoint; without one, every format on built-in shapes
    file: Option<PathBuf>,
    /// Only tensors whose name matches, as in 'blk.0.*'
    #[arg(long, value_name = "GLOB", value_parser = glob, requires = "file")]
    tensors: Option<GlobMatcher>,
    /// Only tensors that the adapter in this folder (as PEFT saves it) adds to, by themselves and with their bias and what it
    /// adds; may be given several times
    #[arg(long, value_name = "DIR", requires = "file")]
    lora: Vec<PathBuf>,
    /// Batch sizes
    #[arg(short, default_value = "1,8")]
    n: List,
    /// Every shape and batch size of the built-in grid
    #[arg(long, conflicts_with = "file")]
    full: bool,
}

/// Built-in shapes [m, k]; the first ones always, the others with `--full`.
const SHAPES: &[(usize, usize)] =
    &[(97, 256), (513, 2048), (1, 4096), (4096, 4096), (1031, 14_336), (70_001, 256)];
/// Batch size above which only memory would be tested.
const MOST_COLUMNS: usize = 1 << 16;
const QUICK: usize = 3;
/// Batch sizes of the full grid: both sides of every switch of kernels.
const FULL_BATCHES: &[usize] = &[1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 64];

impl Check {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        if let Some(n) = self.n.0.iter().find(|n| **n > MOST_COLUMNS) {
            return Err(Error::Argument(format!("batch size {n} is above {MOST_COLUMNS}")));
        }
        let runtime = common.runtime()?;
        let (outcomes, skipped) = match &self.file {
            Some(file) => self.file(common, &runtime, file)?,
            None => (self.grid(common, &runtime)?, vec![]),
        };
        table(&outcomes).print(common.style)?;
        Ok(verdict(common, &outcomes, &skipped))
    }

    /// Every supported tensor of a file, and the names of the others.
    fn file(&self, common: &Common, runtime: &Runtime, file: &Path) -> Result<(Vec<Outcome>, Vec<String>)> {
        let model = common.open(file)?;
        let adapters = lora::open(common, &self.lora)?;
        let all: Vec<_> = match &adapters[..] {
            [] => model.tensors().iter().collect(),
            adapters => lora::tensors(&model, adapters)?,
        };
        let tensors = select(all, self.tensors.as_ref())?;
        let bar = progress::bar(tensors.len() as u64, common.quiet);
        let (mut outcomes, mut skipped) = (vec![], vec![]);
        for info in tensors {
            bar.set_message(plain(&info.name));
            if info.dtype.format().is_some() {
                let packed = model.tensor(info)?;
                outcomes.extend(check::tensor(
                    runtime,
                    &packed,
                    &self.n.0,
                    &common.options(Some(&model))?,
                    common.seed,
                )?);
                outcomes.extend(self.experts(common, runtime, info, &packed)?);
                outcomes.extend(self.lora(common, runtime, (&model, info), &adapters)?);
            } else {
                skipped.push(format!("{} ({})", info.name, info.dtype.name()));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if outcomes.is_empty() {
            let file = file.display().to_string();
            return Err(Error::Argument(format!("{file} holds no tensor in a supported format")));
        }
        Ok((outcomes, skipped))
    }

    /// A tensor of three dimensions is a stack of experts, unless there is but one: checked as such too.
    fn experts(
        &self,
        common: &Common,
        runtime: &Runtime,
        info: &TensorInfo,
        packed: &PackedTensor,
    ) -> Result<Vec<Outcome>> {
        let options = common.options(None)?;
        let suits = options.activations != Activations::Q8 || packed.layout().has_integers();
        let [stack, m, k] = info.shape[..] else { return Ok(vec![]) };
        if !suits || stack < 2 || m * k == 0 || packed.check_finite().is_err() {
            return Ok(vec![]);
        }
        let one = |n: &usize| check::experts(runtime, packed, (stack as usize, *n), &options, common.seed);
        self.n.0.iter().filter(|n| **n > 0).map(one).collect()
    }

    /// A tensor with all that adapters add to it, and with the columns that its file keeps in 16 bits.
    fn lora(
        &self,
        common: &Common,
        runtime: &Runtime,
        (model, info): (&Model, &TensorInfo),
        adapters: &[Adapter],
    ) -> Result<Vec<Outcome>> {
        let kept = info.module.as_ref().is_some_and(|module| module.has_kept_columns());
        if adapters.is_empty() && !kept {
            return Ok(vec![]);
        }
        let mut concerned = adapters.iter().filter(|adapter| adapter.get(&info.name).is_some());
        let linear = concerned.try_fold(model.linear(info)?, |linear, a| lora::add(linear, a, info))?;
        check::lora(runtime, &linear, &self.n.0, &common.options(Some(model))?, common.seed)
    }

    /// Random weights in every format.
    fn grid(&self, common: &Common, runtime: &Runtime) -> Result<Vec<Outcome>> {
        let shapes = if self.full { SHAPES } else { &SHAPES[..QUICK] };
        let batches = if self.full { FULL_BATCHES } else { &self.n.0 };
        let bar = progress::bar((shapes.len() * FORMATS.len()) as u64, common.quiet);
        let mut outcomes = vec![];
        for format in FORMATS {
            for &(m, k) in shapes {
                bar.set_message(format!("{} {m} x {k}", format.name));
                let name = format!("{} {m} x {k}", format.name);
                let packed = check::random_tensor(name, format, m, k, common.seed)?;
                outcomes.extend(check::tensor(
                    runtime,
                    &packed,
                    batches,
                    &common.options(None)?,
                    common.seed,
                )?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(outcomes)
    }
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["tensor", "format", "m", "k", "operation", "n", "nmse", "result"]);
    for o in outcomes {
        let result = if o.comparison.passed { "ok".to_owned() } else { o.comparison.to_string() };
        table.push(vec![
            o.tensor.clone().into(),
            o.format.into(),
            o.m.into(),
            o.k.into(),
            o.operation.into(),
            o.n.into(),
            Cell::Tiny(o.comparison.nmse),
            result.into(),
        ]);
    }
    table
}

/// Tensors that were decoded but not multiplied.
fn no_matmul(outcomes: &[Outcome]) -> Vec<&str> {
    let multiplied: HashSet<_> =
        outcomes.iter().filter(|o| o.operation == "matmul").map(|o| &*o.tensor).collect();
    let decoded = outcomes.iter().filter(|o| o.operation == "dequantize").map(|o| &*o.tensor);
    decoded.filter(|name| !multiplied.contains(name)).collect()
}

fn verdict(common: &Common, outcomes: &[Outcome], skipped: &[String]) -> Verdict {
    if !skipped.is_empty() {
        common.say(&format!("not checked, format not supported: {}", skipped.join(", ")));
    }
    let unmultiplied = no_matmul(outcomes);
    if !unmultiplied.is_empty() {
        common.say(&format!("not multiplied, weights not finite: {}", unmultiplied.join(", ")));
    }
    let wrong = outcomes.iter().filter(|o| !o.comparison.passed).count();
    let worst = outcomes.iter().map(|o| o.comparison.nmse).fold(0.0, f64::max);
    let weights = outcomes.iter().filter(|o| o.operation == "dequantize").count();
    if wrong > 0 {
        common.say(&format!("{wrong} of {} checks on {weights} tensors FAILED", outcomes.len()));
        return Verdict::CheckFailed;
    }
    common.say(&format!(
        "all {} checks on {weights} tensors passed: dequantize and get_rows equal bit for bit, \
         matmul nmse at most {worst:.1e} (bound {:.0e})",
        outcomes.len(),
        check::bound(common.activations)
    ));
    Verdict::Fine
}
