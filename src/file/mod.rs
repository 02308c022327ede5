//! Where bytes come from: GGUF and safetensors files, checkpoints of several of them, adapters, and
//! the files this crate writes.
//!
//! Opening reads and checks headers only. Everything a header claims is compared with the bytes
//! that are there; what does not hold is [`Error::Malformed`](crate::Error::Malformed), with the
//! tensor or key and its offset.
//!
//! ```no_run
//! # fn main() -> qmatmul::Result<()> {
//! use qmatmul::file::{Model, OpenOptions};
//! let model = Model::open("model.gguf", &OpenOptions::default())?;
//! let weight = model.tensor(model.find("blk.0.ffn_down")?)?;
//! println!("{} {} x {}", weight.format().name, weight.rows(), weight.cols());
//! # Ok(())
//! # }
//! ```

pub mod adapter;
pub mod calibration;
pub mod container;
mod model;
mod multiplied;
mod names;
mod names_gguf;
mod overview;
pub mod quantize;
mod quantize_checkpoint;
mod scheme;
mod selection;
mod target;
mod transformers;

pub use adapter::lora;
pub use calibration::activations::{
    Batch, activations_from_bytes, activations_from_stream, read_activations, write_f32, write_f32_to,
};
pub use calibration::imatrix;
pub use calibration::outlier_columns::{Captures, Keep};
pub use container::folder::read_text;
pub use container::ranges::{ByteRanges, RangeFuture};
pub use container::source::OpenOptions;
pub use container::stored::{DType, OtherType};
pub use container::tensors::{Module, TensorInfo};
pub use container::{gguf, gguf_write, output, safetensors, safetensors_write};
pub use model::*;
pub use multiplied::{Multiplied, Product};
pub use overview::{Overview, TokenizerOverview};
pub use quantize::{QuantizeOptions, Report, TensorReport, quantize};
pub use quantize_checkpoint::quantize_checkpoint;

pub use target::Target;
