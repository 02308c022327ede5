//! Activations on their way to a kernel that multiplies: what each kind is made into, on the device
//! and by the CPU.

use super::{gather_act_order, llm_int8, quantize_activations_q8, round_activations_f16};
use crate::error::Result;
use crate::kernel::activations::Activations;
use crate::kernel::plan::{Activated, Buffer, Dispatch, Params, Window, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{CHUNK, Caps};
use std::ops::Range;

/// Words of one column of activations.
pub(in crate::kernel) fn words(cols: usize, activations: Activations) -> usize {
    match activations {
        Activations::F32 => cols,
        Activations::F16 => round_activations_f16::words(cols),
        Activations::Q8 | Activations::Int8(_) => quantize_activations_q8::words(cols),
    }
}

/// The numbers that a kernel multiplies for activations `x[n, k]`.
pub(in crate::kernel) fn twin(x: &[f32], k: usize, activations: Activations) -> Vec<f64> {
    let column = match activations {
        Activations::Int8(threshold) => return llm_int8::Staged::of(x, k, threshold).values(x, k),
        Activations::F32 => |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect(),
        Activations::F16 => round_activations_f16::twin,
        Activations::Q8 => quantize_activations_q8::twin,
    };
    x.chunks(k.max(1)).flat_map(column).collect()
}

/// Activations of `columns` as the kernel wants them, made ready by a dispatch of their own if need
/// be.
pub(in crate::kernel) fn plan(
    plan: &mut Vec<Dispatch>,
    w: &Weight,
    columns: Range<usize>,
    activations: Activations,
    caps: &Caps,
) -> Result<Activated> {
    let source = source(plan, w, columns.clone(), caps)?;
    let (n, chunks) = (columns.len(), w.cols.div_ceil(CHUNK));
    let (candidate, lanes) = match activations {
        Activations::F32 => return Ok(source),
        // A workgroup takes a column, or a lane takes a chunk.
        Activations::F16 => (round_activations_f16::KERNEL.only(caps), None),
        Activations::Q8 | Activations::Int8(_) => {
            let candidate = quantize_activations_q8::KERNEL.only(caps);
            let lanes = candidate.config.workgroup as usize;
            (candidate, Some(lanes))
        }
    };
    let groups = lanes.map_or(n, |lanes| (n * chunks).div_ceil(lanes)) as u32;
    let stride = words(w.cols, activations);
    let params = Params {
        cols: w.cols as u32,
        batch: n as u32,
        groups,
        chunk_end: chunks as u32,
        x_offset: source.offset,
        x_stride: w.cols as u32,
        y_stride: stride as u32,
        ..Params::default()
    };
    let window = Window::first(Buffer::Staged, stride * n);
    plan.push(Dispatch::new(candidate, params, w.name, caps)?.reads(source.window).writes(window));
    Ok(Activated { window, offset: 0, stride: stride as u32 })
}

/// Activations of `columns` as they are, in the order of the weight's columns on the device.
fn source(plan: &mut Vec<Dispatch>, w: &Weight, columns: Range<usize>, caps: &Caps) -> Result<Activated> {
    let (x, offset) = window(Buffer::X, columns.start * w.cols..columns.end * w.cols, caps);
    let given = Activated { window: x, offset, stride: w.cols as u32 };
    if !w.layout.ordered {
        return Ok(given);
    }
    let dispatch = gather_act_order::plan(w, columns.len(), given, caps)?;
    let ordered = Activated { window: dispatch.y, offset: 0, stride: given.stride };
    plan.push(dispatch);
    Ok(ordered)
}
