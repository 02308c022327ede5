//! round_activations_f16: activations as f16, with a power of two taken out of each column.

use super::stage::Activated;
use crate::kernel::compose;
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Parameters, Plan, Window, Workgroups, parameters};
use crate::kernel::types::{CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "round_activations_f16",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/round_activations_f16.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub chunk_end: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_stride: u32,
    }
}

fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        parts: vec![&parts::HALVES, &parts::LARGEST, compose::input(problem)],
        workgroup_memory: 64 * 4,
        ..KernelConfig::new(64)
    }]
}

/// Words of a column before its activations.
pub const HEADER_WORDS: usize = 4;
/// Words of 32 activations.
pub const CHUNK_WORDS: usize = 16;

/// Words of one column of activations.
pub(in crate::kernel) fn words(cols: usize) -> usize {
    HEADER_WORDS + cols.div_ceil(CHUNK) * CHUNK_WORDS
}

/// The dispatch for `cols` features a token; a workgroup takes a token.
pub(super) fn dispatch(plan: &Plan, x: &Activated, to: Window, cols: usize) -> Dispatch {
    let candidate = KERNEL.first(plan.caps(), &x.problem(Problem::default()));
    let params = Params {
        cols: cols as u32,
        chunk_end: cols.div_ceil(CHUNK) as u32,
        x_offset: x.offset,
        x_stride: x.stride,
        y_stride: words(cols) as u32,
    };
    let workgroups = Workgroups::Lanes { lanes: 1, elements: 1 };
    Dispatch::new(candidate, &params, workgroups).slot("x", x.window).slot("y", to)
}

/// What the kernel makes of one column of activations. Exact in f64.
pub fn twin(x: &[f32]) -> Vec<f64> {
    let top = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    // The largest becomes 2^14 or more; below 2^-97 it becomes less.
    let e = (top >> 23).max(30);
    let (scale, inverse) = (f32::from_bits((e - 14) << 23), f32::from_bits((268 - e) << 23));
    x.iter().map(|v| half::f16::from_f32(v * inverse).to_f64() * f64::from(scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overflows_and_nothing_is_lost_but_eleven_bits() {
        for scale in [1e-20f32, 1.0, 65_504.0, 1e30, f32::MAX] {
            let x: Vec<f32> = (0..40).map(|i| scale * ((i * 37 % 64) as f32 / 31.5 - 1.0)).collect();
            for (x, y) in x.iter().zip(twin(&x)) {
                assert!((f64::from(*x) - y).abs() <= f64::from(x.abs()) / 2047.0, "{x} {y}");
            }
        }
        assert!(twin(&[0.0; 3]).iter().all(|v| *v == 0.0));
    }
}
