//! How fast the device multiplies the shapes of a model, each result checked first.

use crate::checks;
use crate::device::Device;
use crate::errors::js;
use crate::tables;
use qmatmul::check;
use qmatmul::gpu::{AdapterSummary, Peak, Weights};
use qmatmul::{Error, MatmulOptions, Result, Runtime};
use qmatmul_report::measured::{self, Beside, Measured};
use qmatmul_report::{Cell, NotChecked, Verdict, counted, pictures};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// What was measured so far.
#[wasm_bindgen]
pub struct Bench {
    gpu: Runtime,
    adapter: AdapterSummary,
    command: String,
    peak: RefCell<Option<Peak>>,
    cases: RefCell<Vec<(Measured, Beside)>>,
    /// Cases that could not be measured, and why.
    failed: RefCell<Vec<(String, String)>>,
}

/// A matmul to measure.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    format: String,
    m: usize,
    k: usize,
    n: usize,
    activations: String,
    /// How long at least.
    seconds: f64,
    /// How many such matrices a token of the model is multiplied by.
    count: Option<u64>,
    /// The tensor that has this shape.
    #[serde(rename = "tensor")]
    _tensor: Option<String>,
}

/// Bytes of copies that are used in turn, so that no cache serves them all.
const FOOTPRINT: u64 = 600 << 20;
const SOFTWARE_FOOTPRINT: u64 = 64 << 20;
/// Tokens from which on arithmetic is the bound, and one copy is enough.
const COMPUTE_BOUND: usize = 64;
/// Rows of the weight that the check before the timing looks at.
const CHECK_ROWS: usize = 256;
const SEED: u64 = 1;

#[wasm_bindgen]
impl Bench {
    /// Nothing yet. `command` is what would do the same on a command line.
    #[wasm_bindgen(constructor)]
    pub fn new(device: &Device, command: String) -> Self {
        let (gpu, adapter) = (device.gpu().clone(), device.adapter().clone());
        let command = format!("qmatmul {command}");
        Self {
            gpu,
            adapter,
            command,
            peak: RefCell::default(),
            cases: RefCell::default(),
            failed: RefCell::default(),
        }
    }

    /// Measures what the device can do at best, each figure for about `seconds`.
    pub async fn peak(&self, seconds: f64) -> Result<(), JsValue> {
        let peak = self.gpu.peak_async(seconds).await.map_err(js)?;
        *self.peak.borrow_mut() = Some(peak);
        Ok(())
    }

    /// Checks and times a case: `{ format, m, k, n, activations, seconds, count }`.
    pub async fn measure(&self, case: String) -> Result<(), JsValue> {
        self.measured(&case).await.map_err(js)
    }

    /// Says that something could not be measured.
    pub fn fail(&self, name: String, why: String) {
        self.failed.borrow_mut().push((name, why));
    }

    /// How many results are wrong.
    #[wasm_bindgen(js_name = wrongCount)]
    pub fn wrong_count(&self) -> usize {
        self.cases.borrow().iter().filter(|(case, _)| !case.comparison.passed).count()
            + self.failed.borrow().len()
    }

    /// A row a case.
    pub fn table(&self) -> String {
        tables::table(measured::COLUMNS, &self.rows())
    }

    /// What could not be measured: a list of lines.
    pub fn wrong(&self) -> String {
        let line = |(name, why): &(String, String)| qmatmul_report::plain(&format!("{name}: {why}"));
        serde_json::json!(self.failed.borrow().iter().map(line).collect::<Vec<_>>()).to_string()
    }

    /// `{ ok, line }`
    pub fn verdict(&self, interrupted: bool) -> String {
        tables::verdict(&self.told(interrupted))
    }

    /// The picture that the command draws, SVG; nothing without cases and the device's peak.
    pub fn picture(&self) -> Option<String> {
        let (cases, peak) = (self.cases.borrow(), self.peak.borrow());
        let all: Vec<Measured> = cases.iter().map(|(case, _)| case.clone()).collect();
        let peak = peak.as_ref().filter(|_| !all.is_empty())?;
        Some(pictures::roofline(&all, peak, &self.adapter).svg())
    }

    /// The report, as `qmatmul bench -f json` writes it. `date` is UTC: `2026-11-30T18:00:00Z`.
    pub fn report(&self, date: String, interrupted: bool) -> String {
        let head = qmatmul_report::head(Some(&self.adapter), self.command.clone(), date);
        let rows = self.rows().iter().map(|row| qmatmul_report::object(measured::COLUMNS, row)).collect();
        qmatmul_report::whole(head, rows, &self.told(interrupted))
    }
}

impl Bench {
    async fn measured(&self, case: &str) -> Result<()> {
        let wrong = |e: serde_json::Error| Error::Argument(format!("a case to measure: {e}"));
        let case: Case = serde_json::from_str(case).map_err(wrong)?;
        let (format, activations) =
            (checks::format(&case.format)?, checks::activations(Some(&case.activations))?);
        let (gpu, n, options) = (&self.gpu, case.n, MatmulOptions::with(activations));
        let packed = check::random_tensor(case.format.clone(), format, case.m, case.k, SEED)?;
        let bytes = (packed.data().len() as u64).max(1);
        let footprint = if gpu.caps().software { SOFTWARE_FOOTPRINT } else { FOOTPRINT };
        let copies = if n < COMPUTE_BOUND { footprint.div_ceil(bytes).clamp(1, 256) } else { 1 };
        let mut weights: Vec<Weights> = vec![];
        for _ in 0..copies {
            weights.push(gpu.upload_async(&packed).await?);
        }
        let x = check::activations(n * case.k, SEED);
        let comparison =
            check::sampled_async(gpu, &packed, &weights[0], &x, &options, (CHECK_ROWS, SEED)).await?;
        let timing = gpu.time_matmul_of_async(&weights, &x, &options, case.seconds).await?;
        let measured = Measured {
            format: format.name,
            m: case.m,
            k: case.k,
            n,
            activations,
            packed: bytes,
            kernel: gpu.kernels(&weights[0], n, &options)?,
            copies: weights.len(),
            timing,
            host_seconds: None,
            comparison,
        };
        let copy_gb_per_s = self.peak.borrow().as_ref().map(Peak::copy_gb_per_s);
        let beside = Beside { count: case.count, copy_gb_per_s, was_us: None };
        self.cases.borrow_mut().push((measured, beside));
        Ok(())
    }

    fn rows(&self) -> Vec<Vec<Cell>> {
        self.cases.borrow().iter().map(|(case, beside)| case.cells(beside)).collect()
    }

    fn told(&self, is_interrupted: bool) -> Verdict {
        let (cases, not) = (self.cases.borrow(), self.failed.borrow());
        let failed = not.len();
        let wrong = cases.iter().filter(|(case, _)| !case.comparison.passed).count();
        let text = match (wrong, failed) {
            (1.., _) => format!("{wrong} of {} results", cases.len()),
            (0, 0) => counted(cases.len(), "case"),
            (0, _) => format!("{}, {failed} could not be measured", counted(cases.len(), "case")),
        };
        Verdict {
            is_wrong: wrong > 0 || ((failed > 0 || cases.is_empty()) && !is_interrupted),
            is_interrupted,
            checks: Some(cases.len()),
            not_checked: not
                .iter()
                .map(|(tensor, reason)| NotChecked { tensor: tensor.clone(), reason: reason.clone() })
                .collect(),
            ..Verdict::ok(format!("{text}: {}", self.adapter.name))
        }
    }
}
