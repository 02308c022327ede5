//! Activations on their way to a kernel that multiplies: what each kind is made into, on the device
//! and by the CPU.

use super::{
    gather_act_order, llm_int8, quantize_activations_q8, quantize_activations_q24, round_activations_f16,
};
use crate::error::Result;
use crate::kernel::activations::Activations;
use crate::kernel::program::{Dispatch, Element, Plan, Ready, Units, View, Window};
use crate::kernel::shard::Weight;
use crate::kernel::types::Problem;
use std::ops::Range;

/// Where a product finds its activations, for a block of tokens.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Activated {
    pub window: Window,
    /// Element where the first token starts.
    pub offset: u32,
    pub stride: u32,
    /// They are given as f16.
    pub half: bool,
    /// They do not lie so that four can be read at once.
    pub unaligned: bool,
}

impl Activated {
    /// Activations that a kernel has written from the beginning of a slot.
    pub fn written(window: Window, stride: usize) -> Self {
        Self { window, offset: 0, stride: stride as u32, half: false, unaligned: false }
    }

    /// Tokens `block` of a view, as they are.
    pub fn given(view: View, block: Range<usize>, plan: &Plan) -> Self {
        let (window, offset) = view.window(block, 0..view.width(), plan.caps());
        let (half, unaligned) = (view.element() == Element::F16, !view.has_quads(0));
        Self { window, offset, stride: view.stride as u32, half, unaligned }
    }

    /// What a kernel has to take of them.
    pub fn problem(&self, of: Problem) -> Problem {
        Problem { half: self.half, unaligned: self.unaligned, ..of }
    }
}

/// Words of one column of activations.
pub(in crate::kernel) fn words(cols: usize, activations: Activations) -> usize {
    match activations {
        Activations::F32 => cols,
        Activations::F16 => round_activations_f16::words(cols),
        Activations::Q8 | Activations::Int8(_) => quantize_activations_q8::words(cols),
        Activations::Q24 => quantize_activations_q24::words(cols),
    }
}

/// The numbers that a kernel multiplies for activations `x[n, k]`.
pub(in crate::kernel) fn twin(x: &[f32], k: usize, activations: Activations) -> Vec<f64> {
    let column = match activations {
        Activations::Int8(threshold) => return llm_int8::Staged::of(x, k, threshold).values(x, k),
        Activations::F32 => |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect(),
        Activations::F16 => round_activations_f16::twin,
        Activations::Q8 => quantize_activations_q8::twin,
        Activations::Q24 => quantize_activations_q24::twin,
    };
    x.chunks(k.max(1)).flat_map(column).collect()
}

/// Makes activations ready, into a window, with so many features a token.
type MakeReady = fn(&Plan, &Activated, Window, usize) -> Dispatch;

/// Activations of `block` as the kernel wants them, made ready by a dispatch of their own if need
/// be, once for all weights that take them so.
pub(in crate::kernel) fn add(
    plan: &mut Plan,
    w: &Weight,
    x: View,
    block: Range<usize>,
    activations: Activations,
) -> Result<Activated> {
    let source = ordered(plan, w, x, block.clone())?;
    let (kernel, dispatch): (_, MakeReady) = match activations {
        Activations::F32 => return Ok(source),
        Activations::F16 => (round_activations_f16::KERNEL.name, round_activations_f16::dispatch),
        Activations::Q8 | Activations::Int8(_) => {
            (quantize_activations_q8::KERNEL.name, quantize_activations_q8::dispatch)
        }
        Activations::Q24 => (quantize_activations_q24::KERNEL.name, quantize_activations_q24::dispatch),
    };
    let stride = words(w.cols, activations);
    let order = w.layout.ordered.then_some(w.index);
    let ready = Ready { view: x, block: block.clone(), kernel, order };
    let words = 0..stride * block.len();
    if let Some(slot) = plan.find_ready(&ready) {
        return Ok(Activated::written(Window::words(slot, words), stride));
    }
    let window = Window::words(plan.scratch("activations for kernels"), words);
    let dispatch = dispatch(plan, &source, window, w.cols);
    plan.push(Units::of(block), vec![dispatch])?;
    plan.set_ready(ready, window.slot);
    Ok(Activated::written(window, stride))
}

/// Activations of `block` as they are, in the order of the weight's columns on the device.
fn ordered(plan: &mut Plan, w: &Weight, x: View, block: Range<usize>) -> Result<Activated> {
    let given = Activated::given(x, block.clone(), plan);
    if !w.layout.ordered {
        return Ok(given);
    }
    let window = Window::words(plan.scratch("activations in order"), 0..w.cols * block.len());
    let dispatch = gather_act_order::dispatch(plan, w, &given, window);
    plan.push(Units::of(block), vec![dispatch])?;
    Ok(Activated::written(window, w.cols))
}
