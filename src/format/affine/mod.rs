//! Integer codes with a scale and perhaps a zero for each group: GPTQ, AWQ, HQQ, compressed-tensors, LLM.int8.

pub(crate) mod int2;
pub(crate) mod int3;
pub(crate) mod int4;
pub(crate) mod int8;
pub(crate) mod uint2;
pub(crate) mod uint3;
pub(crate) mod uint4;
pub(crate) mod uint8;
pub mod uniform;
