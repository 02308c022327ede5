//! FP8_E5M2: floats with a sign, five bits of exponent and two of mantissa (the upper halves of
//! F16) times a scale a row.
//!
//! `w = f32(q) * scale`

use crate::format::fp8::{self, Kind};
use crate::format::{Codes, Coding, Format, Parts};

/// Its decoder is that of FP8_E4M3: the two differ in constants.
pub static FORMAT: Format = Format {
    name: "FP8_E5M2",
    stem: "fp8_e4m3",
    gguf_type: None,
    codes: Codes::None,
    coding: Coding::Parts(Parts {
        bits_per_weight: 8.0,
        encoder: &&KIND,
        layout: |cols| fp8::layout(&KIND, cols),
    }),
    shader: include_str!("../../../shaders/decode/fp8_e4m3.wgsl"),
};

pub(in crate::format) static KIND: Kind =
    Kind { format: &FORMAT, dtype: "F8_E5M2", mantissa: 2, values: fp8::values(2), largest: 57344.0 };
