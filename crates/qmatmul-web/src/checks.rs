//! Tensors of a file, and random weights of every format, checked on the device.

use crate::device::Device;
use crate::errors::js;
use crate::files::ModelFile;
use crate::tables;
use qmatmul::check::{self, Outcome};
use qmatmul::error::shown;
use qmatmul::format::{self, Format};
use qmatmul::gpu::AdapterSummary;
use qmatmul::kernel::Activations;
use qmatmul::{Error, Linear, Lora, MatmulOptions, Result, Runtime};
use qmatmul_report::check::{self as report, Told};
use qmatmul_report::{NotChecked, Verdict};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// A weight of random values, and how it is multiplied.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    format: String,
    /// Outputs and inputs.
    shape: (usize, usize),
    /// Tokens of the products.
    batches: Vec<usize>,
    #[serde(default)]
    activations: Option<String>,
    #[serde(default)]
    how: How,
    #[serde(default = "one")]
    seed: u64,
}

fn one() -> u64 {
    1
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// By the kernels that the device would be given.
    #[default]
    Chosen,
    /// By each kernel and variant that it could be given.
    Each,
    /// As a stack of eight experts.
    Experts,
    /// As a layer with a bias and two adapters of low rank.
    Layer,
}

/// What was checked so far.
#[wasm_bindgen]
pub struct Checks {
    gpu: Runtime,
    adapter: AdapterSummary,
    command: String,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    outcomes: Vec<Outcome>,
    /// Tensors that were to be checked.
    count: usize,
    /// Those that could not be checked, and why.
    failed: Vec<(String, String)>,
    /// Those that were not, and why.
    left: Vec<(String, String)>,
}

#[wasm_bindgen]
impl Checks {
    /// Nothing yet. `command` is what would do the same on a command line.
    #[wasm_bindgen(constructor)]
    pub fn new(device: &Device, command: String) -> Self {
        let (gpu, adapter) = (device.gpu().clone(), device.adapter().clone());
        Self { gpu, adapter, command: format!("qmatmul {command}"), found: RefCell::default() }
    }

    /// The names of all formats, as JSON.
    pub fn formats() -> String {
        let names: Vec<_> = format::FORMATS.iter().map(|format| format.name).collect();
        serde_json::json!(names).to_string()
    }

    /// The shapes `[m, k]` that each format is checked with, as JSON.
    pub fn shapes() -> String {
        serde_json::json!(report::SHAPES).to_string()
    }

    /// Says how many tensors are to be checked.
    pub fn expect(&self, count: usize) {
        self.found.borrow_mut().count = count;
    }

    /// Checks a weight of random values: `{ format, shape: [m, k], batches, activations, how, seed }`.
    /// The number of outcomes.
    #[wasm_bindgen(js_name = addRandom)]
    pub async fn add_random(&self, case: String) -> Result<usize, JsValue> {
        let mut new = vec![];
        let ended = outcomes(&self.gpu, &case, &mut new).await;
        self.take(new, ended.map_err(js))
    }

    /// Checks the tensor with this number of a file. The number of outcomes.
    #[wasm_bindgen(js_name = addTensor)]
    pub async fn add_tensor(
        &self,
        file: &ModelFile,
        number: usize,
        batches: Vec<u32>,
        activations: String,
    ) -> Result<usize, JsValue> {
        let mut new = vec![];
        let batches: Vec<usize> = batches.into_iter().map(|n| n as usize).collect();
        let ended = self.tensor(file, number, &batches, &activations, &mut new).await;
        self.take(new, ended.map_err(js))
    }

    /// Says that something could not be checked.
    pub fn fail(&self, name: String, why: String) {
        self.found.borrow_mut().failed.push((name, why));
    }

    /// How many outcomes are wrong.
    #[wasm_bindgen(js_name = wrongCount)]
    pub fn wrong_count(&self) -> usize {
        let found = self.found.borrow();
        found.outcomes.iter().filter(|o| !o.comparison.passed).count() + found.failed.len()
    }

    /// The outcomes from this number on, as JSON.
    pub fn outcomes(&self, first: usize) -> String {
        let found = self.found.borrow();
        serde_json::to_string(&found.outcomes.get(first..).unwrap_or_default()).unwrap_or_default()
    }

    /// A row for each format, operation and kind of activations.
    pub fn table(&self) -> String {
        tables::table(report::COLUMNS, &report::groups(&self.found.borrow().outcomes))
    }

    /// What is wrong, in full: a list of lines.
    pub fn wrong(&self) -> String {
        let found = self.found.borrow();
        let wrong: Vec<_> = found.outcomes.iter().filter(|o| !o.comparison.passed).collect();
        let mut lines: Vec<_> = wrong.iter().take(MOST_DESCRIBED).map(|o| report::describe(o)).collect();
        lines.extend(found.failed.iter().take(MOST_DESCRIBED).map(|(name, why)| {
            qmatmul_report::plain(&format!("{}: could not be checked: {why}", shown(name)))
        }));
        match wrong.len() + found.failed.len() - lines.len() {
            0 => {}
            more => lines.push(format!("… and {more} more")),
        }
        serde_json::json!(lines).to_string()
    }

    /// `{ ok, line }`
    pub fn verdict(&self, interrupted: bool) -> String {
        tables::verdict(&self.told(interrupted))
    }

    /// The report, as `qmatmul check -f json` writes it. `date` is UTC: `2026-11-30T18:00:00Z`.
    pub fn report(&self, date: String, interrupted: bool) -> String {
        let head = qmatmul_report::head(Some(&self.adapter), self.command.clone(), date);
        let rows = report::rows(&self.found.borrow().outcomes);
        let rows = rows.iter().map(|row| qmatmul_report::object(report::COLUMNS, row)).collect();
        qmatmul_report::whole(head, rows, &self.told(interrupted))
    }
}

/// Wrong outcomes that are described.
const MOST_DESCRIBED: usize = 8;

impl Checks {
    /// Keeps what was found, even if an error ended it.
    fn take(&self, mut new: Vec<Outcome>, ended: Result<(), JsValue>) -> Result<usize, JsValue> {
        new.retain(report::says_something);
        let count = new.len();
        self.found.borrow_mut().outcomes.append(&mut new);
        ended.map(|()| count)
    }

    fn told(&self, is_interrupted: bool) -> Verdict {
        let found = self.found.borrow();
        let not_checked = found.failed.iter().chain(&found.left);
        let told = Told {
            outcomes: &found.outcomes,
            count: found.count,
            failed: found.failed.len(),
            is_interrupted,
            cure: "",
            otherwise: "",
            not_checked: not_checked
                .map(|(tensor, reason)| NotChecked { tensor: tensor.clone(), reason: reason.clone() })
                .collect(),
        };
        told.verdict(&self.adapter)
    }

    async fn tensor(
        &self,
        file: &ModelFile,
        number: usize,
        batches: &[usize],
        asked: &str,
        new: &mut Vec<Outcome>,
    ) -> Result<()> {
        let (gpu, model) = (&self.gpu, file.model());
        let missing = || Error::Argument(format!("the file has no tensor number {number}"));
        let info = model.tensors().get(number).ok_or_else(missing)?;
        if let Some(format) = info.unsupported() {
            self.found.borrow_mut().left.push((info.name.clone(), format!("{format} is not supported")));
            return Ok(());
        }
        let options = MatmulOptions::with(activations(Some(asked))?);
        let is_multiplied = model.multiplied().contains(info);
        let linear = model.linear_async(info).await?;
        let packed = linear.weight();
        let batches = if is_multiplied { batches } else { &[] };
        check::tensor_into_async(new, gpu, packed, batches, &options, SEED).await?;
        let is_layer = linear.kept().is_some() || linear.bias().is_some();
        if is_layer && is_multiplied {
            check::lora_into_async(new, gpu, &linear, batches, &options, SEED).await?;
        }
        match info.shape[..] {
            [stack, m, k] if stack > 1 && m * k > 0 && is_multiplied && packed.check_finite().is_ok() => {
                for n in batches {
                    let exact = MatmulOptions::default();
                    new.push(check::experts_async(gpu, packed, (stack as usize, *n), &exact, SEED).await?);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Of activations.
const SEED: u64 = 1;

/// Checks one weight of random values.
async fn outcomes(gpu: &Runtime, case: &str, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let wrong = |e: serde_json::Error| Error::Argument(format!("a case to check: {e}"));
    let case: Case = serde_json::from_str(case).map_err(wrong)?;
    let (format, activations) = (format(&case.format)?, activations(case.activations.as_deref())?);
    let (m, k) = case.shape;
    let (seed, batches, options) = (case.seed, &case.batches[..], MatmulOptions::with(activations));
    let packed = check::random_tensor(format!("{} {m} x {k}", format.name), format, m, k, seed)?;
    match case.how {
        How::Chosen => check::tensor_into_async(outcomes, gpu, &packed, batches, &options, seed).await?,
        How::Each => {
            check::candidates_into_async(outcomes, gpu, &packed, batches, activations, seed).await?;
        }
        How::Experts => {
            for n in batches {
                outcomes.push(check::experts_async(gpu, &packed, (8, *n), &options, seed).await?);
            }
        }
        How::Layer => {
            let random =
                |name: &str, rows, cols, seed| check::random_tensor(name, format::F32, rows, cols, seed);
            let bias = random("bias", 1, m, seed)?;
            let mut linear = Linear::new(packed).with_bias(bias)?;
            for (rank, scale) in [(4, 0.5), (7, 2.0)] {
                let (a, b) = (random("a", rank, k, seed ^ 2)?, random("b", m, rank, seed ^ 3)?);
                linear = linear.with_adapter(Lora::new(a, b, scale)?)?;
            }
            check::lora_into_async(outcomes, gpu, &linear, batches, &options, seed).await?;
        }
    }
    Ok(())
}

/// The format of this name.
pub fn format(name: &str) -> Result<&'static Format> {
    format::by_name(name).ok_or_else(|| Error::Argument(format!("no format is called `{name}`")))
}

/// The activations of this name; exact ones without a name.
pub fn activations(name: Option<&str>) -> Result<Activations> {
    let Some(name) = name else { return Ok(Activations::F32) };
    let known = Activations::kinds().find(|kind| kind.name() == name);
    known.ok_or_else(|| Error::Argument(format!("no activations are called `{name}`")))
}
