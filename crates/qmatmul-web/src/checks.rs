//! Random weights of every format, checked on the device.

use crate::device::Device;
use crate::errors::js;
use qmatmul::check::{self, Outcome};
use qmatmul::format::{self, Format};
use qmatmul::kernel::Activations;
use qmatmul::{Error, Linear, Lora, MatmulOptions, Result, Runtime};
use wasm_bindgen::prelude::*;

/// The names of all formats, as JSON.
#[wasm_bindgen]
pub fn formats() -> String {
    let names: Vec<_> = format::FORMATS.iter().map(|format| format.name).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

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

#[wasm_bindgen]
impl Device {
    /// Checks one weight of random values; a JSON list of outcomes.
    #[wasm_bindgen(js_name = checkCase)]
    pub async fn check_case(&self, case: String) -> Result<String, JsValue> {
        let outcomes = outcomes(self.gpu(), &case).await.map_err(js)?;
        Ok(serde_json::to_string(&outcomes).unwrap_or_default())
    }
}

async fn outcomes(gpu: &Runtime, case: &str) -> Result<Vec<Outcome>> {
    let wrong = |e: serde_json::Error| Error::Argument(format!("a case to check: {e}"));
    let case: Case = serde_json::from_str(case).map_err(wrong)?;
    let (format, activations) = (format(&case.format)?, activations(case.activations.as_deref())?);
    let (m, k) = case.shape;
    let (seed, batches, options) = (case.seed, &case.batches[..], MatmulOptions::with(activations));
    let packed = check::random_tensor(format!("{} {m} x {k}", format.name), format, m, k, seed)?;
    let mut outcomes = vec![];
    match case.how {
        How::Chosen => check::tensor_into_async(&mut outcomes, gpu, &packed, batches, &options, seed).await?,
        How::Each => {
            check::candidates_into_async(&mut outcomes, gpu, &packed, batches, activations, seed).await?;
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
            check::lora_into_async(&mut outcomes, gpu, &linear, batches, &options, seed).await?;
        }
    }
    Ok(outcomes)
}

/// The format of this name.
fn format(name: &str) -> Result<&'static Format> {
    format::by_name(name).ok_or_else(|| Error::Argument(format!("no format is called `{name}`")))
}

/// The activations of this name; exact ones without a name.
fn activations(name: Option<&str>) -> Result<Activations> {
    let Some(name) = name else { return Ok(Activations::F32) };
    let known = Activations::kinds().find(|kind| kind.name() == name);
    known.ok_or_else(|| Error::Argument(format!("no activations are called `{name}`")))
}
