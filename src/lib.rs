//! Quantized matmul on any GPU.
//!
//! Weights stay packed (4-bit and relatives) in GPU memory, are multiplied by WGSL compute shaders
//! through wgpu (Vulkan, Metal, DX12), and every answer can be checked against a CPU reference.
//!
//! Data flows one way:
//!
//! 1. [`file`](mod@file) opens a GGUF file or a safetensors checkpoint and hands out
//! 2. [`PackedTensor`]s: a [`format`](mod@format), a shape, the bytes as they lie in the file;
//! 3. [`Runtime::upload`] repacks them without loss into aligned planes in device memory:
//!    [`Weights`];
//! 4. [`Runtime::matmul`] computes `y[n, m] = x[n, k] · w[m, k]ᵀ` with a kernel chosen by
//!    [`kernel`];
//! 5. [`check`] compares the result with [`kernel::reference`].
//!
//! A [`Linear`] is a weight with its bias and with LoRA adapters; it goes the same way, as a
//! [`Layer`].
//!
//! ```no_run
//! use qmatmul::{Runtime, file::{Model, OpenOptions}};
//!
//! # fn main() -> qmatmul::Result<()> {
//! let model = Model::open("model-Q4_0.gguf", &OpenOptions::default())?;
//! let packed = model.tensor(model.find("blk.0.ffn_up.weight")?)?; // [m, k], still in the mapped file
//! let gpu = Runtime::new()?;                         // the best GPU adapter
//! let weights = gpu.upload(&packed)?;                // packed in device memory
//! let x = vec![1.0f32; 8 * weights.cols()];          // [n, k]
//! let y = gpu.matmul(&weights, &x)?;                 // [n, m]
//! assert_eq!(y.len(), 8 * weights.rows());
//! # Ok(())
//! # }
//! ```
//!
//! The same without a device, by the reference that all devices are compared with:
//!
//! ```
//! use qmatmul::{PackedTensor, Recipe, format, kernel::reference};
//!
//! # fn main() -> qmatmul::Result<()> {
//! let weights: Vec<f32> = (0..2 * 32).map(|i| i as f32 / 64.0).collect(); // [m, k]
//! let packed = PackedTensor::encode("w", [2, 32], &weights, &Recipe::new(format::Q8_0))?;
//! let y = reference::matmul(&packed, &[1.0; 3 * 32])?; // three tokens, [n, m]
//! assert_eq!(y.len(), 3 * 2);
//! assert!((y[0] - 7.75).abs() < 0.01); // the sum of 0/64 to 31/64
//! # Ok(())
//! # }
//! ```
//!
//! # Embedding
//!
//! An engine brings its own device ([`Runtime::with_device`]). Its products are a
//! [`Program`](gpu::Program), bound once to its own buffers ([`Runtime::bind`]) and recorded into
//! its own compute passes as often as is needed ([`BoundProgram::record`](gpu::BoundProgram)),
//! without a readback:
//!
//! ```no_run
//! use qmatmul::{MatmulOptions, Result, Runtime, Weights, wgpu};
//! use qmatmul::gpu::{BoundProgram, Tokens};
//!
//! /// For up to 64 tokens: x is [n, k], y is [n, m], both f32 with the usage `STORAGE`.
//! fn bind(gpu: &Runtime, w: &Weights, x: &wgpu::Buffer, y: &wgpu::Buffer) -> Result<BoundProgram> {
//!     let mut program = gpu.program(Tokens::UpTo(64));
//!     let (input, output) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
//!     program.matmul(w, input, output, &MatmulOptions::default())?;
//!     gpu.bind(&program, &[(input, x.into()), (output, y.into())])
//! }
//!
//! fn step(gpu: &Runtime, bound: &BoundProgram, n: usize) -> Result<()> {
//!     let mut encoder = gpu.device().create_command_encoder(&Default::default());
//!     bound.record(&mut encoder.begin_compute_pass(&Default::default()), n)?;
//!     gpu.queue().submit([encoder.finish()]);
//!     Ok(())
//! }
//! ```
//!
//! `docs/engines.md` has what programs can do and who sees which error; `examples/embed.rs` is a
//! layer of a model in a host.
//!
//! # Choosing options
//!
//! The defaults are exact: activations and sums in f32. [`MatmulOptions`] trade that for speed, one
//! product at a time. [`Options`] choose the GPU adapter, cap its memory and switch capabilities
//! off:
//!
//! ```
//! use qmatmul::{Activations, MatmulOptions, Options};
//!
//! let rounded = MatmulOptions::with(Activations::Q8); // eight bits, a scale for each 32 features
//! let mut options = Options::default();
//! options.select = "vulkan".parse().unwrap(); // or an index of gpu::adapters(), or part of a name
//! options.memory_limit = Some(4 << 30);       // more is Error::OutOfMemory
//! # assert_eq!(rounded.activations.name(), "q8");
//! ```
//!
//! # Features
//!
//! None is on by default.
//!
//! - `translate`: composed shaders as SPIR-V, HLSL and MSL, by naga's translators.
//! - `gl`: wgpu's OpenGL backend, used only with `WGPU_BACKEND=gl`.
//! - `web`: WebGPU of a browser, for wasm32-unknown-unknown alone. There the calls that wait have
//!   only their async forms ([`Runtime::new_async`] and the others); `docs/web.md` has an example.
//!
//! ```
//! #[cfg(feature = "translate")]
//! assert!(qmatmul::translate::Target::by_name("spirv").is_some());
//! ```
//!
//! # wgpu compatibility
//!
//! This version works with wgpu 30, whose types are part of its interface. The crate re-exports it:
//! name it through `qmatmul::wgpu`, and the two cannot differ. A host that opens the device itself
//! asks for the features and limits that [`gpu::wanted_features`] and [`gpu::wanted_limits`] name
//! for its GPU adapter.
//!
//! # Errors
//!
//! Every function that can fail returns [`Error`]: the thing by name, what was expected, what was
//! found. Nothing that a file holds can make it panic. What a lost, full or hung device means for a
//! host is in `docs/failures.md`.
//!
//! ```
//! use qmatmul::{Error, file::{Model, OpenOptions}};
//!
//! match Model::open("no-such.gguf", &OpenOptions::default()) {
//!     Err(Error::Io { path, .. }) => assert_eq!(path.to_str(), Some("no-such.gguf")),
//!     other => panic!("{other:?}"),
//! }
//! ```

#![warn(missing_debug_implementations, missing_docs)]

#[cfg(all(target_arch = "wasm32", not(feature = "web")))]
compile_error!("for wasm32 qmatmul needs its feature `web`: cargo build --features web");

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
#[cfg(not(target_family = "wasm"))]
pub mod tune;

pub use error::{Error, Result};
pub use format::Recipe;
pub use gpu::{Layer, Options, Runtime, Weights};
pub use kernel::{Activations, MatmulOptions};
pub use linear::{Linear, Lora, OutlierColumns};
pub use tensor::PackedTensor;
pub use wgpu;

/// The examples of the pages, as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/adapters.md")]
    struct Adapters;
    #[doc = include_str!("../docs/engines.md")]
    struct Engines;
    #[doc = include_str!("../docs/llm-int8.md")]
    struct LlmInt8;
}
