//! INT2: integers from -1 to 1 (stored as 1 to 3) times a scale, a scale for each 64.
//!
//! `w = (q - 2) * scale`

use crate::format::affine::uniform::{self, Grid};
use crate::format::recipe::Group;
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "INT2",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 2.5,
        encoder: &&GRID,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 2, symmetric: true, group: Group::Columns(64) };
