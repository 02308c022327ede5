//! Where bytes come from and go to: GGUF, safetensors and NumPy's arrays, sources of bytes, JSON
//! within bounds, outputs that appear whole.

pub(crate) mod folder;
pub mod gguf;
pub(crate) mod gguf_split;
pub(crate) mod gguf_value;
pub mod gguf_write;
pub(crate) mod json;
pub(crate) mod npy;
pub mod output;
mod partial;
pub(crate) mod ranges;
pub mod safetensors;
pub mod safetensors_write;
pub(crate) mod source;
pub(crate) mod stored;
pub(crate) mod tensors;
