//! Integer codes with a scale and perhaps a zero for each group: GPTQ, AWQ, HQQ,
//! compressed-tensors, LLM.int8.

pub(crate) mod int2;
pub(crate) mod int3;
pub(crate) mod int4;
pub(crate) mod int8;
pub(crate) mod uint2;
pub(crate) mod uint3;
pub(crate) mod uint4;
pub(crate) mod uint8;
pub(crate) mod uniform;

use uniform::Grid;

/// The format that holds codes of so many bits, 1 to 8.
pub(crate) fn grid_for(bits: usize, symmetric: bool) -> &'static Grid {
    match (bits, symmetric) {
        (..=2, true) => &int2::GRID,
        (..=2, false) => &uint2::GRID,
        (3, true) => &int3::GRID,
        (3, false) => &uint3::GRID,
        (4, true) => &int4::GRID,
        (4, false) => &uint4::GRID,
        (_, true) => &int8::GRID,
        (_, false) => &uint8::GRID,
    }
}
