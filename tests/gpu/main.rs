//! The gpu lane: every decoder on every access path, every kernel configuration on every shape, and
//! what a runtime promises.
//! `docs/testing.md` says which shapes, formats and kernels meet here and which in the full lane.
//!
//! Each test states how many pipelines it compiles (`device::pipelines`).

mod asynchronous;
mod bitsandbytes;
mod bound;
#[path = "../common/cells.rs"]
mod cells;
#[path = "../common/mod.rs"]
mod common;
mod determinism;
#[path = "../common/device.rs"]
mod device;
mod encode;
mod faults;
mod golden;
mod grid;
mod host;
mod hub;
#[path = "../common/hub.rs"]
mod hub_cases;
mod hub_floats;
mod hub_integers;
mod int8;
mod lora;
mod mistakes;
mod peak;
mod programs;
mod runtime;
#[cfg(target_os = "linux")]
mod soak;
mod tuning;
mod uniform;
