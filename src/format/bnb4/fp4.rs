//! FP4 of bitsandbytes: a sign and eight magnitudes from 0 and 1/192 to 1, a scale for each 64
//! weights. Not E2M1.
//!
//! `w[i] = absmax[i / block] * book[q[i]]`

use crate::format::bnb4::four_bit::{self, Table};
use crate::format::{Codes, Coding, Format, Parts};

/// Its decoder is that of NF4: the two differ in the book.
pub static FORMAT: Format = Format {
    name: "FP4",
    stem: "nf4",
    gguf_type: None,
    codes: Codes::Values,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.5,
        encoder: &TABLE,
        layout: |cols| four_bit::layout(&TABLE, cols),
    }),
    shader: include_str!("../../../shaders/decode/nf4.wgsl"),
};

const STEP: f32 = 1.0 / 192.0;

/// Values of bitsandbytes, `functional.get_4bit_type`: in the order of their bits, not of their
/// size.
const VALUES: [f32; 16] = [
    0.0,
    STEP,
    2.0 / 3.0,
    1.0,
    1.0 / 3.0,
    0.5,
    1.0 / 6.0,
    0.25,
    0.0,
    -STEP,
    -2.0 / 3.0,
    -1.0,
    -1.0 / 3.0,
    -0.5,
    -1.0 / 6.0,
    -0.25,
];

/// The codes in the order of their values. Of the two zeros the second is for what lies above zero,
/// as in the vectors of bitsandbytes; its CUDA kernel has them the other way round, and decodes the
/// same.
const CODES: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

pub(in crate::format) static TABLE: Table =
    Table { format: &FORMAT, values: VALUES, codes: CODES, pivots: four_bit::midpoints(&VALUES, &CODES) };
