//! What the checkpoints of other tools mean: one file a convention, and what they have in common.

pub(crate) mod awq;
pub(crate) mod bitsandbytes;
pub(crate) mod bitsandbytes_int8;
pub(crate) mod checkpoint;
pub(crate) mod compressed_tensors;
pub(crate) mod float4;
pub(crate) mod fp8;
pub(crate) mod gptq;
pub(crate) mod hqq;
pub(crate) mod outlier_columns;
pub(crate) mod registry;
pub(crate) mod scales;
pub(crate) mod settings;
pub(crate) mod view;
