//! bitsandbytes' four bits: indices into a codebook of sixteen values.

pub mod four_bit;
pub(crate) mod fp4;
pub(crate) mod nf4;
