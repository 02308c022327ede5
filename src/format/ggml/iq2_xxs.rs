//! IQ2_XXS: 256 weights in 66 bytes: d (f16), then for each 32: qs[4] (entries of the grid, 8
//! weights each), signs (u32: four times seven bits, the eighth sign is their parity; the top four
//! bits are the scale s).
//!
//! `w[i] = d * (0.5 + s[i / 32]) * 0.25 * grid[qs[i / 8]][i % 8] * sign[i]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq2Xxs {
    d: [u8; 2],
    chunks: [Chunk; 8],
}
const _: () = assert!(size_of::<Iq2Xxs>() == 66);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Chunk {
    qs: [u8; 4],
    signs: [u8; 4],
}

static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq2_xxs_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ2_XXS",
    stem: "iq2_xxs",
    gguf_type: Some(16),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq2Xxs>()),
    shader: include_str!("../../../shaders/decode/iq2_xxs.wgsl"),
};

impl Block for Iq2Xxs {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] = &[Plane::new("qs, signs", 64 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_nibbles(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for (chunk, out) in self.chunks.iter().zip(out.as_chunks_mut::<32>().0) {
            let signs = u32::from_le_bytes(chunk.signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.25;
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *out = grid::signed(&GRID[usize::from(chunk.qs[l])], d, grid::even_signs(signs >> (7 * l)));
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        let signs = |chunk: Chunk| grid::pack_even_signs(u32::from_le_bytes(chunk.signs));
        to.put(0, self.chunks.map(|chunk| [u32::from_le_bytes(chunk.qs), signs(chunk)]));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let chunks: [[u32; 2]; 8] = from.get(0);
        let chunk = |[qs, signs]: [u32; 2]| Chunk {
            qs: qs.to_le_bytes(),
            signs: grid::unpack_even_signs(signs).to_le_bytes(),
        };
        Self { d: from.get(1), chunks: chunks.map(chunk) }
    }
}
