//! Quantized matmul on any GPU.
//!
//! Weights stay packed (4-bit and relatives) in GPU memory, are multiplied by WGSL compute shaders
//! through wgpu (Vulkan, Metal, DX12), and every answer can be proved against a CPU reference.
//!
//! Data flows one way:
//!
//! 1. [`file`](mod@file) opens a GGUF file or a safetensors checkpoint and hands out
//! 2. [`PackedTensor`]s: a [`format`](mod@format), a shape, the bytes as they lie in the file;
//! 3. [`Runtime::upload`] repacks them without loss into aligned planes in device memory:
//!    [`Weights`];
//! 4. [`Runtime::matmul`] computes `y[n, m] = x[n, k] · w[m, k]ᵀ` with a kernel chosen by
//!    [`kernel`];
//! 5. [`check`] holds the result against [`kernel::reference`].
//!
//! A [`Linear`] is a weight with its bias and with adapters of low rank (LoRA); it goes the same
//! way, as a [`Layer`].
//!
//! ```no_run
//! use qmatmul::{Runtime, file::{Model, OpenOptions}};
//!
//! # fn main() -> qmatmul::Result<()> {
//! let model = Model::open("model-Q4_0.gguf", &OpenOptions::default())?;
//! let packed = model.tensor(model.find("blk.0.ffn_up.weight")?)?; // [m, k], still in the mapped file
//! let gpu = Runtime::new()?;                         // the best adapter
//! let weights = gpu.upload(&packed)?;                // packed in device memory
//! let x = vec![1.0f32; 8 * weights.cols()];          // [n, k]
//! let y = gpu.matmul(&weights, &x)?;                 // [n, m]
//! assert_eq!(y.len(), 8 * weights.rows());
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod check;
pub mod error;
pub mod file;
pub mod format;
pub mod gpu;
pub mod kernel;
pub mod linear;
pub mod tensor;
#[cfg(any(test, feature = "translate"))]
pub mod translate;
pub mod tune;

pub use error::{Error, Result};
pub use format::Recipe;
pub use gpu::{Layer, Options, Runtime, Weights};
pub use kernel::{Activations, MatmulOptions};
pub use linear::{Linear, Lora, OutlierColumns};
pub use tensor::PackedTensor;
pub use wgpu;
