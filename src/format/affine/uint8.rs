//! UINT8: integers from 0 to 255 less a zero, times a scale, both for each row.
//!
//! `w = (q - zero) * scale`

use crate::format::affine::uniform::{self, Grid};
use crate::format::recipe::Group;
use crate::format::{Codes, Coding, Format, Parts};

pub static FORMAT: Format = Format {
    name: "UINT8",
    stem: "uniform",
    gguf_type: None,
    // Bytes without signs do not fit the products of signed ones.
    codes: Codes::None,
    coding: Coding::Parts(Parts {
        bits_per_weight: 8.0,
        encoder: &&GRID,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 8, symmetric: false, group: Group::Row };
