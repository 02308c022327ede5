//! FP8_E4M3: floats with a sign, four bits of exponent and three of mantissa ("e4m3fn": up to 448,
//! no infinity) times a scale a row.
//!
//! `w = f32(q) * scale`

use crate::format::fp8::{self, Kind};
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "FP8_E4M3",
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

pub(crate) static KIND: Kind =
    Kind { format: &FORMAT, dtype: "F8_E4M3", mantissa: 3, values: fp8::values(3), largest: 448.0 };
