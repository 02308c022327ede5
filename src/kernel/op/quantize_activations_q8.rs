//! quantize_activations_q8: activations as eight-bit codes with a scale for each 32.

use super::stage::Activated;
use crate::kernel::compose;
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Parameters, Plan, Window, Workgroups, parameters};
use crate::kernel::types::{CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_activations_q8",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_activations_q8.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in `shaders/lib/x_chunk.wgsl`.
    pub struct Params {
        pub cols: u32,
        pub chunk_end: u32,
        pub x_offset: u32,
        pub x_stride: u32,
    }
}

/// A lane takes a chunk, whatever is made of it.
pub(super) fn configs(_: &Caps, problem: &Problem) -> Vec<KernelConfig> {
    let parts = vec![&parts::CODE_PLACE, compose::input(problem), &parts::X_CHUNK];
    vec![KernelConfig { parts, loops_per_chunk: 48, ..KernelConfig::new(32) }]
}

/// Words of 32 activations: 8 of codes, the scale, the sums of their halves, one unused.
pub const CHUNK_WORDS: usize = 12;

/// Chunks that lie side by side: 16 bytes of each in turn.
const SIDE_CHUNKS: usize = 32;

/// Words of one column of activations.
pub(in crate::kernel) fn words(cols: usize) -> usize {
    room(cols, CHUNK_WORDS)
}

/// Words of one column with so many words a chunk.
pub(super) fn room(cols: usize, chunk_words: usize) -> usize {
    cols.div_ceil(CHUNK).next_multiple_of(SIDE_CHUNKS) * chunk_words
}

/// Word `i` of a chunk in a column. Twin of `code_place` in `shaders/lib/code_place.wgsl`.
pub(super) fn word_place(chunk: usize, i: usize) -> usize {
    let block = chunk / SIDE_CHUNKS * SIDE_CHUNKS * CHUNK_WORDS;
    block + i / 4 * SIDE_CHUNKS * 4 + chunk % SIDE_CHUNKS * 4 + i % 4
}

/// The dispatch for `cols` features a token.
pub(super) fn dispatch(plan: &Plan, x: &Activated, to: Window, cols: usize) -> Dispatch {
    dispatch_of(&KERNEL, plan, x, to, cols)
}

/// The same of any kernel with these parameters and configurations.
pub(super) fn dispatch_of(
    kernel: &'static Kernel,
    plan: &Plan,
    x: &Activated,
    to: Window,
    cols: usize,
) -> Dispatch {
    let candidate = kernel.first(plan.caps(), &x.problem(Problem::default()));
    let chunk_end = cols.div_ceil(CHUNK) as u32;
    let params = Params { cols: cols as u32, chunk_end, x_offset: x.offset, x_stride: x.stride };
    let workgroups = Workgroups::Lanes { lanes: candidate.config.workgroup, elements: chunk_end };
    Dispatch::new(candidate, &params, workgroups).slot("x", x.window).slot("y", to)
}

/// What the kernel makes of one column of activations, as the numbers that the codes stand for.
/// Exact in f64.
pub fn twin(x: &[f32]) -> Vec<f64> {
    rounded(x, scales)
}

/// Each chunk as integers times a scale: `scales` gives that scale and its reciprocal for the
/// largest magnitude of the chunk, as bits. Exact in f64.
pub(super) fn rounded(x: &[f32], scales: fn(u32) -> (f32, f32)) -> Vec<f64> {
    let chunk = |x: &[f32]| {
        let top = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let (d, id) = scales(top);
        x.iter().map(|v| f64::from(d) * f64::from((v * id).round_ties_even())).collect::<Vec<_>>()
    };
    x.chunks(CHUNK).flat_map(chunk).collect()
}

/// Scale and its reciprocal for 32 activations, the largest of which has magnitude `top` as bits;
/// both zero below 2^-111.
fn scales(top: u32) -> (f32, f32) {
    let up = (top + 0xfff) & 0xffff_f000;
    let e = up >> 23;
    let m = ((up >> 12) & 0x7ff) | 0x800;
    let d = (m as f32 * (1.0 / 127.0)).to_bits();
    let id = (((127 << 24) / m) as f32).to_bits();
    if e < 16 {
        return (0.0, 0.0);
    }
    // Times 2^(e - 138) and 2^(114 - e): in the exponents.
    (f32::from_bits(d + (e << 23) - (138 << 23)), f32::from_bits(id + (114 << 23) - (e << 23)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_code_is_127_and_nothing_is_lost_but_its_rounding() {
        for scale in [1e-30f32, 1.0, 3.7, 1e30, f32::MAX] {
            let x: Vec<f32> = (0..32).map(|i| scale * ((i * 37 % 64) as f32 / 31.5 - 1.0)).collect();
            let top = x.iter().fold(0f32, |m, v| m.max(v.abs()));
            let (d, id) = scales(top.to_bits());
            assert!((126.9..=127.0).contains(&(top * id)), "{top} {id}");
            assert!((f64::from(d) * f64::from(id) - 1.0).abs() < 1e-5);
            for (x, y) in x.iter().zip(twin(&x)) {
                assert!((f64::from(*x) - y).abs() <= f64::from(top) / 127.0 * 0.501, "{x} {y}");
            }
        }
        assert_eq!(scales(0), (0.0, 0.0));
        assert_eq!(scales(1e-38f32.to_bits()), (0.0, 0.0));
    }
}
