//! INT4: integers from -7 to 7 (stored as 1 to 15) times a scale, a scale for each 128.
//!
//! `w = (q - 8) * scale`

use crate::format::affine::uniform::{self, Grid};
use crate::format::recipe::Group;
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "INT4",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 4.25,
        encoder: &&GRID,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 4, symmetric: true, group: Group::Columns(128) };
