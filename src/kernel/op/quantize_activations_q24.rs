//! quantize_activations_q24: activations as integers of three bytes with a scale for each 32.

use super::quantize_activations_q8::{Params, configs, dispatch_of, room, rounded};
use super::stage::Activated;
use crate::kernel::program::{Dispatch, Parameters, Plan, Window};
use crate::kernel::types::{Family, Kernel, Operation};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_q24",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_q24.wgsl"),
    params: Params::FIELDS,
    configs,
};

/// Words of 32 activations: 24 of bytes, the scale, the sums of their halves, one unused.
const CHUNK_WORDS: usize = 28;

/// Words of one column of activations.
pub(in crate::kernel) fn words(cols: usize) -> usize {
    room(cols, CHUNK_WORDS)
}

/// The dispatch for `cols` features a token.
pub(super) fn dispatch(plan: &Plan, x: &Activated, to: Window, cols: usize) -> Dispatch {
    dispatch_of(&KERNEL, plan, x, to, cols)
}

/// What the kernel makes of one column of activations, as the numbers that the integers stand for.
/// Exact in f64.
pub fn twin(x: &[f32]) -> Vec<f64> {
    rounded(x, scales)
}

/// A power of two and its reciprocal for 32 activations, the largest of which has magnitude `top`
/// as bits: it becomes at most 127 · 65536, which three signed bytes hold. Both zero below 2^-104.
fn scales(top: u32) -> (f32, f32) {
    let e = (top + 0x2_0000) >> 23;
    match () {
        _ if top >= 0x7f80_0000 => (f32::NAN, 0.0),
        _ if e < 23 => (0.0, 0.0),
        _ => (f32::from_bits((e - 22) << 23), f32::from_bits((276 - e) << 23)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_integer_fits_three_signed_bytes_and_little_is_lost() {
        for scale in [1e-30f32, 1.0, 1.984_374_9, 1.984_375, 1.999_999_9, 3.7, 1e30, f32::MAX] {
            let x: Vec<f32> = (0..32).map(|i| scale * ((i * 37 % 64) as f32 / 31.5 - 1.0)).collect();
            let top = x.iter().fold(0f32, |m, v| m.max(v.abs()));
            let (s, inverse) = scales(top.to_bits());
            let largest = (top * inverse).round_ties_even();
            assert!((4_161_536.0..=8_355_711.0).contains(&largest), "{top}: {largest}");
            assert_eq!(f64::from(s) * f64::from(inverse), 1.0, "{top}");
            for (x, y) in x.iter().zip(twin(&x)) {
                assert!((f64::from(*x) - y).abs() <= f64::from(s) * 0.5, "{x} {y}");
            }
        }
        assert_eq!(scales(0), (0.0, 0.0));
        assert_eq!(scales(1e-38f32.to_bits()), (0.0, 0.0));
        assert!(scales(f32::INFINITY.to_bits()).0.is_nan());
    }
}
