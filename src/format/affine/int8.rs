//! INT8: integers from -127 to 127 times a scale, 8 bits, a scale a row as in LLM.int8.
//!
//! `w = q * scale`

use crate::format::affine::uniform::{self, CodeRows, Columns, Grid, Group, Uniform, int8_scale, rows_of};
use crate::format::bits::largest;
use crate::format::{Codes, Coding, Format, Parts, Storage};
use bytes::Bytes;
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

pub static FORMAT: Format = Format {
    name: "INT8",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 8.0,
        encode: |shape, weights| encode(shape, weights),
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 8, symmetric: true, group: Group::Row };

/// Encodes as bitsandbytes does for LLM.int8: weights as halves, the largest magnitude of each row
/// as 127.
fn encode(shape: (usize, usize), weights: &[f32]) -> Arc<dyn Storage> {
    let halves: Vec<f32> = weights.par_iter().map(|w| half::f16::from_f32(*w).to_f32()).collect();
    let (codes, absmax): (Vec<_>, Vec<_>) = rows_of(&halves, shape).map(encode_row).unzip();
    Arc::new(rows(shape, codes.concat().into(), absmax))
}

fn encode_row(row: &[f32]) -> (Vec<u8>, f32) {
    let absmax = largest(row);
    let scale = int8_scale(absmax);
    (row.iter().map(|w| (w * scale).round_ties_even() as i8 as u8).collect(), absmax)
}

/// Row-wise codes of INT8 with the largest magnitude of each row.
pub(crate) fn rows(shape: (usize, usize), codes: Bytes, absmax: Vec<f32>) -> Uniform {
    Uniform {
        grid: &GRID,
        shape: [shape.0, shape.1],
        columns: Columns::Runs(shape.1.max(1)),
        codes: CodeRows::dense(codes, 8, shape.1, true),
        groups: 1,
        scales: absmax.iter().map(|max| max / 127.0).collect(),
        zeros: vec![],
        absmax: Some(absmax),
        halves: OnceLock::new(),
    }
}
