//! Test data, the same for the same seed on every machine.

use crate::error::Result;
use crate::format::{Blocks, Format, Recipe};
use crate::tensor::PackedTensor;

/// Normally distributed activations, the same for the same seed on every machine.
pub fn activations(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.normal()).collect()
}

/// A weight of random valid blocks: encoded normal numbers where the format has an encoder, random
/// codes otherwise.
///
/// Blocks are drawn from a pool, so that large tensors are made quickly.
///
/// # Errors
/// As [`PackedTensor::new`].
pub fn random_tensor(
    name: impl Into<String>,
    format: &'static Format,
    rows: usize,
    cols: usize,
    seed: u64,
) -> Result<PackedTensor> {
    let mut random = Random::new(seed);
    let Some(of) = format.blocks() else {
        let weights = random_weights(rows * cols, &mut random);
        return PackedTensor::encode(name, [rows, cols], &weights, &Recipe::new(format));
    };
    let pool: Vec<Vec<u8>> = (0..POOL).map(|_| random_block(of, &mut random)).collect();
    let blocks = rows * cols.div_ceil(of.weights);
    let mut data = Vec::with_capacity(blocks * of.bytes);
    for _ in 0..blocks {
        data.extend_from_slice(&pool[(random.next_u64() % POOL) as usize]);
    }
    PackedTensor::new(name, format, rows, cols, data)
}

const POOL: u64 = 1021;

/// Normal numbers: runs of a pool, from anywhere in it.
fn random_weights(count: usize, random: &mut Random) -> Vec<f32> {
    let pool: Vec<f32> = (0..64 * POOL).map(|_| random.normal()).collect();
    let mut weights = Vec::with_capacity(count);
    while weights.len() < count {
        let run = &pool[(random.next_u64() % (63 * POOL)) as usize..][..POOL as usize];
        weights.extend_from_slice(&run[..run.len().min(count - weights.len())]);
    }
    weights
}

/// A block whose largest weight is neither tiny nor huge, so that f32 sums of many make sense.
fn random_block(format: &Blocks, random: &mut Random) -> Vec<u8> {
    let mut block = vec![0u8; format.bytes];
    let mut weights = vec![0f32; format.weights];
    if let Some(encode) = format.encode {
        weights.fill_with(|| random.normal());
        encode(&weights, &mut block);
        return block;
    }
    // A scale that can be huge is no number with all bits set. Without one any block will do:
    // integers, and NVFP4.
    let bounded = (format.is_finite)(&vec![0xff; format.bytes]);
    loop {
        block.fill_with(|| random.next_u64() as u8);
        if bounded {
            return block;
        }
        if (format.is_finite)(&block) {
            (format.decode)(&block, &mut weights);
            let largest = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
            if (1e-2..1e2).contains(&largest) {
                return block;
            }
        }
    }
}

/// A small generator of test data (SplitMix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 .. 1.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// About normal, mean 0 and variance 1: the sum of twelve uniform numbers less six.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}
