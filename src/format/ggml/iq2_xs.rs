//! IQ2_XS: 256 weights in 74 bytes: d (f16), qs[32] (u16: nine bits an entry of the grid, 8 weights
//! each; seven bits signs, the eighth is their parity), scales[8] (a nibble s for each 16 weights,
//! low first).
//!
//! `w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[qs[i / 8] & 511][i % 8] * sign[i]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq2Xs {
    d: [u8; 2],
    qs: [[[u8; 2]; 4]; 8],
    scales: [u8; 8],
}
const _: () = assert!(size_of::<Iq2Xs>() == 74);

static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq2_xs_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ2_XS",
    stem: "iq2_xs",
    gguf_type: Some(17),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq2Xs>()),
    shader: include_str!("../../../shaders/decode/iq2_xs.wgsl"),
};

/// Four codes as two words: their low bytes, and their signs with the ninth bits on top.
fn pack_codes(qs: &[[u8; 2]; 4]) -> [u32; 2] {
    let signs = qs
        .iter()
        .enumerate()
        .fold(0, |word, (l, [_, q])| word | u32::from(q >> 1) << (7 * l) | u32::from(q & 1) << (28 + l));
    [u32::from_le_bytes(qs.map(|[q, _]| q)), grid::pack_even_signs(signs)]
}

/// Inverse of [`pack_codes`].
fn unpack_codes(low: u32, signs: u32) -> [[u8; 2]; 4] {
    let (low, signs) = (low.to_le_bytes(), grid::unpack_even_signs(signs));
    std::array::from_fn(|l| [low[l], ((signs >> (7 * l) & 127) as u8) << 1 | (signs >> (28 + l) & 1) as u8])
}

impl Block for Iq2Xs {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs, signs", 64 * 8), Plane::new("scales", 8 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_nibbles(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (c, half) = (i / 2, i % 2);
            let d = d * (0.5 + f32::from(self.scales[c] >> (half * 4) & 15)) * 0.25;
            for (l, out) in (2 * half..).zip(out.as_chunks_mut::<8>().0) {
                let q = u16::from_le_bytes(self.qs[c][l]);
                *out = grid::signed(&GRID[usize::from(q & 511)], d, grid::even_signs(u32::from(q >> 9)));
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs.map(|qs| pack_codes(&qs)));
        to.put(1, self.scales);
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let chunks: [[u32; 2]; 8] = from.get(0);
        let qs = chunks.map(|[low, signs]| unpack_codes(low, signs));
        Self { d: from.get(2), qs, scales: from.get(1) }
    }
}
