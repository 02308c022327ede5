//! The engine of qmatmul's page, for its JavaScript: a device, a file of which nothing is read but
//! what is asked for, checks and times. Data crosses as JSON, as the command writes it
//! (docs/json.md); errors are JavaScript's, their `name` one of `NoAdapter`, `DeviceLost`,
//! `OutOfMemory`, `File` and `Error`.
#![cfg(target_family = "wasm")]

mod bench;
mod checks;
mod device;
mod embed;
mod errors;
mod files;
mod source;
mod tables;

use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

/// Tells the console of panics, with their place, and the page by `globalThis.onQmatmulPanic`: what
/// waited for this program then waits for ever.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        let global = js_sys::global();
        let told = js_sys::Reflect::get(&global, &"onQmatmulPanic".into()).unwrap_or_default();
        if let Ok(told) = told.dyn_into::<js_sys::Function>() {
            let _ = told.call1(&global, &info.to_string().into());
        }
    }));
}

/// Bytes of this program's memory, which grows and never shrinks.
#[wasm_bindgen(js_name = memoryBytes)]
pub fn memory_bytes() -> f64 {
    core::arch::wasm32::memory_size(0) as f64 * 65536.0
}
