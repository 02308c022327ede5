//! INT8: integers from -127 to 127 times a scale, 8 bits, a scale a row as in LLM.int8.
//!
//! `w = q * scale`

use crate::format::affine::uniform::{self, Grid, Group};
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "INT8",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 8.0,
        encode: |shape, weights| uniform::encode_int8(shape, weights),
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 8, symmetric: true, group: Group::Row };
