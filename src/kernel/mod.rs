//! What is computed: one file per kernel in `op`, the composition of its WGSL, the choice of a
//! kernel for a problem, and programs, which turn problems into dispatches. Nothing here names wgpu:
//! the device is a [`Caps`].

mod activations;
pub mod compose;
pub(crate) mod limits;
pub mod op;
mod operations;
mod parameters;
mod parts;
mod preferences;
pub mod program;
pub mod reference;
mod registry;
mod select;
pub mod shapes;
pub mod shard;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod types;

pub use activations::{Activations, Threshold};
pub use op::{llm_int8, quantize_activations_q8, round_activations_f16};
pub use parts::Part;
pub use preferences::{Preferences, Tuned};
pub use registry::{KERNELS, by_name};
pub use select::{candidates, choose};
pub use types::{Candidate, Caps, Family, Kernel, KernelConfig, MatmulOptions, Operation, Problem, Vendor};
