//! IQ2_S: 256 weights in 82 bytes: d (f16), qs[32] (low bytes of the entries of the grid, 8 weights
//! each), signs[32], qh[8] (two high bits of each entry), scales[8] (a nibble s for each 16
//! weights, low first).
//!
//! `w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[q[i / 8]][i % 8] * sign[i]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq2S {
    d: [u8; 2],
    qs: [[u8; 4]; 8],
    signs: [[u8; 4]; 8],
    qh: [u8; 8],
    scales: [u8; 8],
}
const _: () = assert!(size_of::<Iq2S>() == 82);

static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq2_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ2_S",
    stem: "iq2_s",
    gguf_type: Some(22),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq2S>()),
    shader: include_str!("../../../shaders/decode/iq2_s.wgsl"),
};

impl Block for Iq2S {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs, signs", 64 * 8), Plane::new("qh, scales", 16 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_nibbles(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (c, half) = (i / 2, i % 2);
            let d = d * (0.5 + f32::from(self.scales[c] >> (half * 4) & 15)) * 0.25;
            for (l, out) in (2 * half..).zip(out.as_chunks_mut::<8>().0) {
                let q = usize::from(self.qs[c][l]) | usize::from(self.qh[c]) << (8 - 2 * l) & 0x300;
                *out = grid::signed(&GRID[q], d, self.signs[c][l]);
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        let chunk =
            |c: usize| [u32::from_le_bytes(self.qs[c]), grid::pack_signs(u32::from_le_bytes(self.signs[c]))];
        to.put(0, std::array::from_fn::<_, 8, _>(chunk));
        to.put(1, std::array::from_fn::<_, 8, _>(|c| [self.qh[c], self.scales[c]]));
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let (chunks, high): ([[u32; 2]; 8], [[u8; 2]; 8]) = (from.get(0), from.get(1));
        Self {
            d: from.get(2),
            qs: chunks.map(|[qs, _]| qs.to_le_bytes()),
            signs: chunks.map(|[_, signs]| grid::unpack_signs(signs).to_le_bytes()),
            qh: high.map(|[qh, _]| qh),
            scales: high.map(|[_, scales]| scales),
        }
    }
}
