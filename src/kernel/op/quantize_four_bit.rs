//! quantize_four_bit: codes and scales of blocks of weights, as NF4 and FP4 have them.

use crate::error::Result;
use crate::kernel::limits::{QUANTIZE_WEIGHTS, binding_elements, too_wide};
use crate::kernel::program::{Dispatch, Parameters, Plan, View, Workgroups, parameters};
use crate::kernel::types::{Candidate, Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub(in crate::kernel) static KERNEL: Kernel = Kernel {
    name: "quantize_four_bit",
    operation: Operation::Quantize,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/quantize_four_bit.wgsl"),
    params: Params::FIELDS,
    configs: |_: &Caps, _: &Problem| BLOCKS.map(config).into(),
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub cols: u32,
        pub groups: u32,
        pub y_stride: u32,
    }
}

/// Weights that share a scale.
const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
const WORKGROUP: usize = 64;
/// Weights whose codes fill a word: a lane takes so many at a time.
const WORD: usize = 8;

/// Weights of a workgroup: a word of codes for each lane, or one large block.
fn span(block: usize) -> usize {
    block.max(WORD * WORKGROUP)
}

/// How the kernel is compiled for blocks of this size.
fn config(block: usize) -> KernelConfig {
    let (blocks, rounds) = (span(block) / block, span(block) / (WORD * WORKGROUP));
    KernelConfig {
        variant: format!("{block}"),
        constants: vec![
            ("BLOCK_SHIFT", block.trailing_zeros()),
            ("BLOCKS", blocks as u32),
            ("ROUNDS", rounds as u32),
        ],
        // The largest magnitude of each block, and sixteen edges.
        workgroup_memory: (blocks * 17 * 4) as u32,
        ..KernelConfig::new(WORKGROUP as u32)
    }
}

/// Four-bit codes and scales of the weights `weights` of a tensor, which start a block: f32 in x,
/// in y the words of the codes and behind them the scales; `pivots` holds what the shader compares
/// with. How many words of codes there are. The weights that one dispatch can do are
/// [`most_weights`].
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if there are more.
pub(crate) fn add(
    plan: &mut Plan,
    weights: Range<usize>,
    block: usize,
    x: View,
    y: View,
    pivots: View,
) -> Result<usize> {
    let candidate = Candidate { kernel: &KERNEL, config: config(block) };
    let count = weights.len();
    let code_words = count.div_ceil(WORD);
    let groups = count.div_ceil(span(block)) as u32;
    let params = Params { cols: count as u32, groups, y_stride: code_words as u32 };
    // Read four weights at a time.
    let (from, _) = x.window(weights.start..weights.start + count.next_multiple_of(4), 0..1, plan.caps());
    let (to, _) = y.window(0..code_words + count.div_ceil(block), 0..1, plan.caps());
    let (pivots, _) = pivots.window(0..PIVOT_WORDS, 0..1, plan.caps());
    let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(groups));
    plan.push_once(vec![dispatch.slot("x", from).slot("y", to).slot("pivots", pivots)])?;
    Ok(code_words)
}

/// Words of fifteen pivots and of the codes between them.
const PIVOT_WORDS: usize = 17;

/// Weights that one dispatch can do: whole blocks of every size, and few enough that memory for
/// them is no matter.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if that is none.
pub(crate) fn most_weights(name: &str, caps: &Caps) -> Result<usize> {
    let largest = BLOCKS[BLOCKS.len() - 1];
    let most = binding_elements(caps).min((caps.max_buffer / 4) as usize).min(QUANTIZE_WEIGHTS);
    match most / largest * largest {
        0 => Err(too_wide(format!("a block of `{name}` as f32"), largest, most)),
        weights => Ok(weights),
    }
}

#[cfg(test)]
mod tests {
    //! The shader's integers against the arithmetic in f32 that they stand for. Functions have the
    //! shader's names.

    use crate::format::{bnb4, by_name};

    fn mantissa(bits: u32) -> u32 {
        if bits < 0x0080_0000 { bits } else { bits & 0x007f_ffff | 0x0080_0000 }
    }

    fn quotient(n: u32, d: u32) -> (u32, u32) {
        let (mut q, mut r) = (n / d, n % d);
        for _ in 0..2 {
            r <<= 8;
            q = (q << 8) | (r / d);
            r %= d;
        }
        (q, r)
    }

    fn reciprocal(top: u32) -> (u32, i32) {
        let shift = top.leading_zeros().max(8) - 8;
        let subnormal = top < 0x0080_0000;
        let e = if subnormal { 1 - shift as i32 } else { (top >> 23) as i32 };
        let m = mantissa(top) << if subnormal { shift } else { 0 };
        let (q, r) = quotient(1 << 31, m);
        if e < 253 {
            return (q + u32::from(2 * r > m), 253 - e);
        }
        let s = (e - 252) as u32;
        let (low, half) = (q & ((1 << s) - 1), 1 << (s - 1));
        let up = low > half || low == half && (r > 0 || q >> s & 1 == 1);
        (((q >> s) + u32::from(up)) << s, 253 - e)
    }

    fn edge(top: u32, pivot: u32) -> i32 {
        let negative = pivot >> 31 == 1;
        if top <= 0x0020_0000 {
            return if negative { -1 } else { 0 };
        }
        let t = pivot & 0x7fff_ffff;
        let m = mantissa(t);
        let b = if negative { 2 * m - 1 } else { 2 * m + 1 };
        let (d, e) = reciprocal(top);
        let shift = b.leading_zeros();
        let (mut q, r) = quotient(b << shift, d);
        let mut x = (t >> 23).max(1) as i32 - e - shift as i32 + 133;
        let mut rest = r > 0;
        if q >= 0x0100_0000 {
            (rest, q, x) = (rest || q & 1 == 1, q >> 1, x + 1);
        }
        let s = (1 - x).clamp(0, 31) as u32;
        rest |= q & ((1 << s) - 1) > 0;
        let low = ((x - 1).max(0) as u32 * 0x0080_0000 + (q >> s)) as i32;
        let odd = m & 1 == 1;
        if negative { -(low + i32::from(rest || odd)) } else { low - i32::from(odd && !rest) }
    }

    /// The weight of a key.
    fn weight(key: i32) -> f32 {
        let magnitude = f32::from_bits(key.unsigned_abs());
        if key < 0 { -magnitude } else { magnitude }
    }

    /// What [`edge`] says of the weights around it, and so of all: more of a weight is more of its
    /// product.
    fn check(top: u32, pivots: &[f32]) {
        let absmax = f32::from_bits(top);
        let inverse = if absmax == 0.0 { 0.0 } else { 1.0 / absmax };
        let scaled = |w: f32| match inverse.is_finite() {
            true => w * inverse,
            false => w * f32::MAX * f32::MAX,
        };
        for pivot in pivots {
            let edge = edge(top, pivot.to_bits());
            for key in [edge, edge + 1] {
                let above = scaled(weight(key)) > *pivot;
                // A block of zeros has no weight but zero.
                if (top > 0 || key == 0) && weight(key).is_finite() {
                    assert_eq!(above, key > edge, "scale {top:#010x}, pivot {pivot}, key {key}");
                }
            }
        }
    }

    #[test]
    fn edges_are_where_the_products_in_f32_cross_the_pivots() {
        let tables =
            ["NF4", "FP4"].map(|name| bnb4::table(by_name(name).expect("there")).expect("four bits"));
        let pivots = tables.map(|table| table.pivots).concat();
        // Half a step below a power of two is no half of the step above it.
        assert!(pivots.iter().all(|p| *p >= 0.0 || p.to_bits() & 0x007f_ffff > 0));
        let mut random = crate::check::Random::new(1);
        let exponents = |m: u32| [0, 1, 2, 24, 126, 127, 200, 252, 253, 254].map(|e| e << 23 | m);
        for low in 0..64 {
            let ends = [low, 0x0020_0000 - 32 + low, 0x0040_0000 - 32 + low, 0x007f_ffc0 + low];
            ends.into_iter().flat_map(exponents).for_each(|top| check(top, &pivots));
        }
        for _ in 0..100_000 {
            let m = (random.uniform() * 8_388_608.0) as u32;
            exponents(m).into_iter().for_each(|top| check(top, &pivots));
        }
    }
}
