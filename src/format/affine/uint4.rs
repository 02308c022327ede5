//! UINT4: integers from 0 to 15 less a zero, times a scale, both for each 128.
//!
//! `w = (q - zero) * scale`

use crate::format::affine::uniform::{self, Grid, Group};
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "UINT4",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.5,
        encode: |shape, weights| uniform::encode(&GRID, shape, weights, GRID.group),
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 4, symmetric: false, group: Group::Columns(128) };
