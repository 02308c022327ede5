//! NF4 of bitsandbytes: codes of four bits into sixteen quantiles of a normal distribution, a scale
//! for each 64 weights.
//!
//! `w[i] = absmax[i / block] * book[q[i]]`

use crate::format::bnb4::four_bit::{self, Table};
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "NF4",
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

/// Values of bitsandbytes, `functional.get_4bit_type`; pivots of its `dQuantizeNF4`, half-way
/// between them.
pub(in crate::format) static TABLE: Table = Table {
    format: &FORMAT,
    values: [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
    codes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    pivots: PIVOTS,
};

const PIVOTS: [f32; 15] = [
    -0.848_096_4,
    -0.610_632_93,
    -0.459_995_27,
    -0.339_679_43,
    -0.234_607_41,
    -0.137_911_73,
    -0.045_525_018,
    0.039_790_15,
    0.120_255_25,
    0.203_521_25,
    0.292_013_77,
    0.389_312_54,
    0.501_663_4,
    0.642_786_9,
    0.861_478_4,
];
