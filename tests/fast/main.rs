//! The fast lane: what needs no device. Files and each way in which one can lie, what importers of
//! the library may name, pages.

mod architecture;
#[path = "../common/mod.rs"]
mod common;
mod debug;
mod file_bitsandbytes;
#[cfg(target_os = "linux")]
mod file_bounds;
// Elsewhere the system keeps mapped files from being truncated.
#[cfg(unix)]
mod file_changed;
mod file_gguf;
mod file_gguf_split;
mod file_imatrix;
mod file_int8;
mod file_lora;
mod file_multiplied;
mod file_npy;
mod file_overview;
mod file_quantize;
mod file_ranges;
mod file_safetensors;
mod hub;
#[path = "../common/hub.rs"]
mod hub_cases;
mod readme;
mod schemes;
