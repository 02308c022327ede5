//! IQ3_XXS: 256 weights in 98 bytes: d (f16), qs[64] (entries of the grid, 4 weights each),
//! signs[8] (u32 for each 32 weights: four times seven bits, the eighth sign is their parity; the
//! top four bits are the scale s).
//!
//! `w[i] = d * (0.5 + s[i / 32]) * 0.5 * grid[qs[i / 4]][i % 4] * sign[i]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq3Xxs {
    d: [u8; 2],
    qs: [[u8; 8]; 8],
    signs: [[u8; 4]; 8],
}
const _: () = assert!(size_of::<Iq3Xxs>() == 98);

static GRID: &[[u8; 4]] = grid::entries(include_bytes!("../tables/iq3_xxs_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ3_XXS",
    stem: "iq3_xxs",
    gguf_type: Some(18),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq3Xxs>()),
    shader: include_str!("../../../shaders/decode/iq3_xxs.wgsl"),
};

impl Block for Iq3Xxs {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 64 * 8), Plane::new("signs", 32 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_quads(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for ((qs, signs), out) in self.qs.iter().zip(self.signs).zip(out.as_chunks_mut::<32>().0) {
            let signs = u32::from_le_bytes(signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.5;
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let values = grid::joined(GRID[usize::from(qs[2 * l])], GRID[usize::from(qs[2 * l + 1])]);
                *out = grid::signed(&values, d, grid::even_signs(signs >> (7 * l)));
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs);
        to.put(1, self.signs.map(|signs| grid::pack_even_signs(u32::from_le_bytes(signs))));
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let signs: [u32; 8] = from.get(1);
        let signs = signs.map(|word| grid::unpack_even_signs(word).to_le_bytes());
        Self { d: from.get(2), qs: from.get(0), signs }
    }
}
