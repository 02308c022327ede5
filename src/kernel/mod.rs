//! What is computed: one file per kernel in `op`, the composition of its WGSL, the choice of a kernel for a request, and the
//! plan that turns the request into dispatches. Nothing here names wgpu: the device is a [`Caps`].

pub mod compose;
pub mod op;
pub mod plan;
pub mod reference;
mod registry;
mod select;
#[cfg(test)]
pub(crate) mod tests;
mod types;

pub use op::{llm_int8, quantize_activations_q8, round_activations_f16};
pub use registry::{KERNELS, by_name};
pub use select::{candidates, choose};
pub use types::{
    Activations, Candidate, Caps, Family, Kernel, KernelConfig, MatmulOptions, Operation, Problem, Threshold,
};
