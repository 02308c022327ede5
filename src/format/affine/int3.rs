//! INT3: integers from -3 to 3 (stored as 1 to 7) times a scale, a scale for each 128.
//!
//! `w = (q - 4) * scale`

use crate::format::affine::uniform::{self, Grid};
use crate::format::recipe::Group;
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "INT3",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 3.25,
        encoder: &&GRID,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 3, symmetric: true, group: Group::Columns(128) };
