//! IQ1_S: 256 weights in 50 bytes: d (f16), qs[32] (low bytes of the entries of the grid, 8 weights
//! each), qh[8] (u16 for each 32 weights: four times three high bits of the entries, three bits
//! scale s, one bit the sign of delta).
//!
//! `w[i] = d * (2 * s[i / 32] + 1) * (grid[q[i / 8]][i % 8] ± 0.125)`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq1S {
    d: [u8; 2],
    qs: [[u8; 4]; 8],
    qh: [[u8; 2]; 8],
}
const _: () = assert!(size_of::<Iq1S>() == 50);

/// The values of the entries, IQ1_M's too.
pub static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq1_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ1_S",
    stem: "iq1_s",
    gguf_type: Some(19),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq1S>()),
    shader: include_str!("../../../shaders/decode/iq1_s.wgsl"),
};

impl Block for Iq1S {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 32 * 8), Plane::new("qh", 16 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_pairs(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for ((qs, qh), out) in self.qs.iter().zip(self.qh).zip(out.as_chunks_mut::<32>().0) {
            let qh = u16::from_le_bytes(qh);
            let d = d * f32::from(2 * (qh >> 12 & 7) + 1);
            let delta = if qh & 0x8000 == 0 { 0.125 } else { -0.125 };
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let q = usize::from(qs[l]) | usize::from(qh >> (3 * l) & 7) << 8;
                *out = grid::shifted(&GRID[q], d, delta);
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs);
        to.put(1, self.qh);
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { d: from.get(2), qs: from.get(0), qh: from.get(1) }
    }
}
