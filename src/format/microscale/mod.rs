//! Four-bit floats with a small scale for each block: MXFP4, NVFP4.

pub(crate) mod mxfp4;
pub(crate) mod nvfp4;
pub(crate) mod nvfp4_global;
