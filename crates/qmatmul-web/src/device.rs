//! The device of a page.

use crate::errors::js;
use qmatmul::gpu::{AdapterSummary, Capability};
use qmatmul::{Error, Options, Runtime};
use wasm_bindgen::prelude::*;

/// What the page knows of the adapter, and how it is to be taken.
#[derive(serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[derive(Default)]
struct Wishes {
    /// What the browser calls the adapter, which WebGPU's interface for Rust does not tell.
    name: String,
    /// The browser and its version.
    driver: String,
    /// Kernels for software adapters, or for GPUs; if unset, as the adapter says.
    software: Option<bool>,
    /// Capabilities that are not used.
    without: Vec<String>,
}

/// An open device.
#[wasm_bindgen]
pub struct Device {
    gpu: Runtime,
    adapter: AdapterSummary,
}

#[wasm_bindgen]
impl Device {
    /// Opens the browser's adapter. `wishes` is a JSON object with any of `name`, `driver`,
    /// `software` and `without`.
    pub async fn open(wishes: String) -> Result<Device, JsValue> {
        Self::opened(&wishes).await.map_err(js)
    }

    /// The device with its limits, as a row of `qmatmul devices -f json`.
    pub fn row(&self) -> String {
        serde_json::to_string(&self.adapter).unwrap_or_default()
    }

    /// Throws if the device is lost.
    pub fn check(&self) -> Result<(), JsValue> {
        self.gpu.check_device().map_err(js)
    }

    /// Bytes that this page's buffers take on the device.
    #[wasm_bindgen(js_name = memoryUsed)]
    pub fn memory_used(&self) -> f64 {
        self.gpu.memory_used() as f64
    }
}

impl Device {
    async fn opened(wishes: &str) -> Result<Self, Error> {
        let wrong = |e: &dyn std::fmt::Display| Error::Argument(format!("the wishes for the device: {e}"));
        let wishes: Wishes = serde_json::from_str(wishes).map_err(|e| wrong(&e))?;
        let capability = |name: &String| {
            let known = Capability::ALL.iter().find(|c| c.name() == name).copied();
            known.ok_or_else(|| wrong(&format!("no capability is called `{name}`")))
        };
        let without = wishes.without.iter().map(capability).collect::<Result<_, _>>()?;
        let options = Options { software: wishes.software, without, ..Options::default() };
        let gpu = Runtime::with_options_async(&options).await?;
        let mut adapter = gpu.adapter().clone();
        if adapter.name.is_empty() {
            adapter.name = wishes.name;
        }
        if adapter.driver.is_empty() {
            adapter.driver = wishes.driver;
        }
        Ok(Self { gpu, adapter })
    }

    pub fn gpu(&self) -> &Runtime {
        &self.gpu
    }

    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }
}
