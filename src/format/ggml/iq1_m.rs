//! IQ1_M: 256 weights in 56 bytes: qs[32] (low bytes of the entries of IQ1_S's grid, 8 weights
//! each), qh[16] (a nibble for each: three high bits of the entry, one bit the sign of delta),
//! scales[4] (u16: four times three bits s for 16 weights each, and on top a nibble of d, lowest
//! first).
//!
//! `w[i] = d * (2 * s[i / 16] + 1) * (grid[q[i / 8]][i % 8] ± 0.125)`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::ggml::iq1_s::GRID;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq1M {
    qs: [[u8; 4]; 8],
    qh: [[u8; 2]; 8],
    scales: [[u8; 2]; 4],
}
const _: () = assert!(size_of::<Iq1M>() == 56);

pub static FORMAT: Format = Format {
    name: "IQ1_M",
    stem: "iq1_m",
    gguf_type: Some(29),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq1M>()),
    shader: include_str!("../../../shaders/decode/iq1_m.wgsl"),
};

/// The f16 in the top nibbles of the scales.
fn d(b: &Iq1M) -> [u8; 2] {
    let [s0, s1, s2, s3] = b.scales.map(|[_, high]| high);
    [s0 >> 4 | s1 & 0xf0, s2 >> 4 | s3 & 0xf0]
}

/// Two entries of the grid, their nibbles in `qh`.
fn decode16(qs: [u8; 2], qh: u8, d: f32, out: &mut [f32; 16]) {
    for ((q, h), out) in qs.into_iter().zip([qh & 15, qh >> 4]).zip(out.as_chunks_mut::<8>().0) {
        let delta = [0.125, -0.125][usize::from(h >> 3)];
        *out = grid::shifted(&GRID[usize::from(q) | usize::from(h & 7) << 8], d, delta);
    }
}

/// Two of the four u16 as a word: their scales, then their nibbles of d.
fn pack_scales([a, b]: [[u8; 2]; 2]) -> u32 {
    let [a, b] = [a, b].map(|s| u32::from(u16::from_le_bytes(s)));
    a & 0xfff | (b & 0xfff) << 12 | a >> 12 << 24 | b >> 12 << 28
}

/// Inverse of [`pack_scales`].
fn unpack_scales(word: u32) -> [[u8; 2]; 2] {
    [word & 0xfff | word >> 24 << 12, word >> 12 & 0xfff | word >> 28 << 12].map(|s| (s as u16).to_le_bytes())
}

impl Block for Iq1M {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] = &[
        Plane::new("qs", 32 * 8),
        Plane::new("qh", 16 * 8),
        // Two words, each eight scales of three bits and a byte of d.
        Plane::new("scales, d", 64),
    ];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_pairs(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(d(self));
        for (c, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scales = u16::from_le_bytes(self.scales[c / 2]) >> (c % 2 * 6);
            for (half, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let d = d * f32::from(2 * (scales >> (3 * half) & 7) + 1);
                decode16([self.qs[c][2 * half], self.qs[c][2 * half + 1]], self.qh[c][half], d, out);
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(d(self))
    }

    fn pack(&self, to: &mut Packer) {
        let [s0, s1, s2, s3] = self.scales;
        to.put(0, self.qs);
        to.put(1, self.qh);
        to.put(2, [pack_scales([s0, s1]), pack_scales([s2, s3])]);
    }

    fn unpack(from: &Unpacker) -> Self {
        let scales: [u32; 2] = from.get(2);
        Self { qs: from.get(0), qh: from.get(1), scales: bytemuck::cast(scales.map(unpack_scales)) }
    }
}
