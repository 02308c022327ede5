//! INT8: integers from -127 to 127 times a scale, 8 bits, a scale a row as in LLM.int8.
//!
//! `w = q * scale`

use crate::error::Result;
use crate::format::affine::uniform::{self, CodeRows, Columns, Grid, More, Uniform, int8_scale, rows_of};
use crate::format::bits::largest;
use crate::format::recipe::{Choice, Encoder, Group, Job, Recipe};
use crate::format::{Codes, Coding, Format, Parts, Storage};
use bytes::Bytes;
use rayon::prelude::*;
use std::sync::Arc;

pub static FORMAT: Format = Format {
    name: "INT8",
    stem: "uniform",
    gguf_type: None,
    codes: Codes::Integers,
    coding: Coding::Parts(Parts {
        bits_per_weight: 8.0,
        encoder: &LlmInt8,
        layout: |cols| uniform::layout(&GRID, cols),
    }),
    shader: include_str!("../../../shaders/decode/uniform.wgsl"),
};

pub(in crate::format) static GRID: Grid =
    Grid { format: &FORMAT, bits: 8, symmetric: true, group: Group::Row };

/// Encodes as bitsandbytes does for LLM.int8: weights as halves, the largest magnitude of each row
/// as 127. Where groups are chosen it is the encoder of all uniform codes.
struct LlmInt8;

impl Encoder for LlmInt8 {
    fn fault(&self, recipe: &Recipe) -> Option<String> {
        (&GRID).fault(recipe)
    }

    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>> {
        if job.recipe.choice() != Choice::Default {
            return (&GRID).encode(job);
        }
        let halves: Vec<f32> = job.weights.par_iter().map(|w| half::f16::from_f32(*w).to_f32()).collect();
        let (codes, absmax): (Vec<_>, Vec<_>) = rows_of(&halves, job.shape).map(encode_row).unzip();
        Ok(Arc::new(rows(job.shape, codes.concat().into(), absmax)))
    }
}

fn encode_row(row: &[f32]) -> (Vec<u8>, f32) {
    let absmax = largest(row);
    let scale = int8_scale(absmax);
    (row.iter().map(|w| (w * scale).round_ties_even() as i8 as u8).collect(), absmax)
}

/// Row-wise codes of INT8 with the largest magnitude of each row.
pub(crate) fn rows(shape: [usize; 2], codes: Bytes, absmax: Vec<f32>) -> Uniform {
    Uniform {
        grid: &GRID,
        shape,
        columns: Columns::Runs(shape[1].max(1)),
        codes: CodeRows::dense(codes, 8, shape[1], true),
        groups: 1,
        scales: absmax.iter().map(|max| max / 127.0).collect(),
        zeros: vec![],
        more: More { absmax: Some(absmax), ..More::default() },
    }
}
