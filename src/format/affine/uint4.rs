//! UINT4: integers from 0 to 15 less a zero, times a scale, both for each 128.
//!
//! `w = (q - zero) * scale`

use crate::format::affine::uniform::{self, Grid};
use crate::format::recipe::Group;
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "UINT4",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.5,
        encoder: &&GRID,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 4, symmetric: false, group: Group::Columns(128) };
