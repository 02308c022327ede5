//! IQ3_XXS: 256 weights in 98 bytes: d (f16), qs[64] (entries of the grid, 4 weights each), signs[8] (u32 for each 32 weights:
//! four times seven bits, the eighth sign is their parity; the top four bits are the scale s).
//!
//! `w[i] = d * (0.5 + s[i / 32]) * 0.5 * grid[qs[i / 4]][i % 4] * sign[i]`

use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [[u8; 8]; 8],
    signs: [[u8; 4]; 8],
}
const _: () = assert!(size_of::<Block>() == 98);

static GRID: &[[u8; 4]] = grid::entries(include_bytes!("../tables/iq3_xxs_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ3_XXS",
    stem: "iq3_xxs",
    gguf_type: Some(18),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 64 * 8), Plane::new("signs", 32 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_quads(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq3_xxs.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        for ((qs, signs), out) in b.qs.iter().zip(b.signs).zip(out.as_chunks_mut::<32>().0) {
            let signs = u32::from_le_bytes(signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.5;
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let values = grid::joined(GRID[usize::from(qs[2 * l])], GRID[usize::from(qs[2 * l + 1])]);
                *out = grid::signed(&values, d, grid::even_signs(signs >> (7 * l)));
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            planes[0][2 * chunk..2 * chunk + 2].copy_from_slice(&bytemuck::cast::<_, [u32; 2]>(b.qs[c]));
            planes[1][chunk] = grid::pack_even_signs(u32::from_le_bytes(b.signs[c]));
        }
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            b.qs[c].copy_from_slice(bytemuck::cast_slice(&planes[0][2 * chunk..2 * chunk + 2]));
            b.signs[c] = grid::unpack_even_signs(planes[1][chunk]).to_le_bytes();
        }
        b.d = bits::get_half(planes[2], i);
    }
}
