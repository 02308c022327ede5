//! What the checkpoints of other tools mean: one file a convention, and what they have in common.

pub(crate) mod autoround;
pub(crate) mod awq;
pub(crate) mod awq_gemv_fast;
pub(crate) mod bitsandbytes;
pub(crate) mod bitsandbytes_int8;
pub(crate) mod checkpoint;
pub(crate) mod compressed_tensors;
pub(crate) mod config;
pub(crate) mod conv1d;
pub(crate) mod float4;
pub(crate) mod fp8;
pub(crate) mod gguf_scale;
pub(crate) mod gptq;
pub(crate) mod hqq;
pub(crate) mod mlx;
pub(crate) mod modelopt_int4;
pub(crate) mod outlier_columns;
pub(crate) mod registry;
pub(crate) mod scales;
pub(crate) mod settings;
pub(crate) mod torchao;
pub(crate) mod view;
