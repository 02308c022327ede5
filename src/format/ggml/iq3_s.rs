//! IQ3_S: 256 weights in 110 bytes: d (f16), qs[64] (low bytes of the entries of the grid, 4
//! weights each), qh[8] (ninth bit of each entry), signs[32], scales[4] (a nibble s for each 32
//! weights, low first).
//!
//! `w[i] = d * (1 + 2 * s[i / 32]) * grid[q[i / 4]][i % 4] * sign[i]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq3S {
    d: [u8; 2],
    qs: [[u8; 8]; 8],
    qh: [u8; 8],
    signs: [[u8; 4]; 8],
    scales: [u8; 4],
}
const _: () = assert!(size_of::<Iq3S>() == 110);

static GRID: &[[u8; 4]] = grid::entries(include_bytes!("../tables/iq3_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ3_S",
    stem: "iq3_s",
    gguf_type: Some(21),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq3S>()),
    shader: include_str!("../../../shaders/decode/iq3_s.wgsl"),
};

impl Block for Iq3S {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] = &[
        Plane::new("qs", 64 * 8),
        Plane::new("signs", 32 * 8),
        // Two words of qh, one of scales.
        Plane::new("qh, scales", 3 * 32),
        Plane::new("d", 16),
    ];

    const CODEBOOK: Codebook = Codebook::Grid(|| grid::words_of_quads(GRID));

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        for (c, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let d = d * f32::from(1 + 2 * (self.scales[c / 2] >> (c % 2 * 4) & 15));
            let entry =
                |i: usize| GRID[usize::from(self.qs[c][i]) | usize::from(self.qh[c]) << (8 - i) & 0x100];
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let values = grid::joined(entry(2 * l), entry(2 * l + 1));
                *out = grid::signed(&values, d, self.signs[c][l]);
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        let [low, high] = bytemuck::cast(self.qh);
        to.put(0, self.qs);
        to.put(1, self.signs.map(|signs| grid::pack_signs(u32::from_le_bytes(signs))));
        to.put(2, [low, high, self.scales]);
        to.put(3, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let signs: [u32; 8] = from.get(1);
        let [low, high, scales]: [[u8; 4]; 3] = from.get(2);
        Self {
            d: from.get(3),
            qs: from.get(0),
            qh: bytemuck::cast([low, high]),
            signs: signs.map(|word| grid::unpack_signs(word).to_le_bytes()),
            scales,
        }
    }
}
