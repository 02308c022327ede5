//! FP4 of bitsandbytes: a sign and eight magnitudes from 0 and 1/192 to 1, a scale for each 64 weights. Not E2M1.
//!
//! `w[i] = absmax[i / block] * book[q[i]]`

use super::four_bit::{self, Table};
use super::{Codes, Coding, Format, Parts};

/// Its decoder is that of NF4: the two differ in the book.
pub static FORMAT: Format = Format {
    name: "FP4",
    stem: "nf4",
    gguf_type: None,
    codes: Codes::Values,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.5,
        encode: |shape, weights| four_bit::encode(&TABLE, shape, weights, four_bit::Recipe::default()),
        layout: |cols| four_bit::layout(&TABLE, cols),
    }),
    shader: include_str!("../../shaders/decode/nf4.wgsl"),
};

const STEP: f32 = 1.0 / 192.0;

/// Values of bitsandbytes, `functional.get_4bit_type`: in the order of their bits, not of their size.
pub(super) static TABLE: Table = Table {
    format: &FORMAT,
    values: [
        0.0,
        STEP,
        2.0 / 3.0,
        1.0,
        1.0 / 3.0,
        0.5,
        1.0 / 6.0,
        0.25,
        -0.0,
        -STEP,
        -2.0 / 3.0,
        -1.0,
        -1.0 / 3.0,
        -0.5,
        -1.0 / 6.0,
        -0.25,
    ],
    code,
};

/// Half-way between neighbouring magnitudes, as bitsandbytes' `dQuantizeFP4` writes them, and the code above each.
const PIVOTS: [(f32, u8); 7] = [
    (0.002_604_17, 0b001),
    (0.085_937_5, 0b110),
    (0.208_333_33, 0b111),
    (0.291_666_67, 0b100),
    (0.416_666_7, 0b101),
    (0.583_333, 0b010),
    (0.833_333_3, 0b011),
];

/// The nearest value; half-way between two the smaller.
fn code(x: f32) -> u8 {
    let above = PIVOTS.iter().rev().find(|(pivot, _)| x.abs() > *pivot);
    above.map_or(0, |(_, code)| *code) | if x < 0.0 { 8 } else { 0 }
}
