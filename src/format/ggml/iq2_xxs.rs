//! IQ2_XXS: 256 weights in 66 bytes: d (f16), then for each 32: qs[4] (entries of the grid, 8 weights each), signs (u32: four
//! times seven bits, the eighth sign is their parity; the top four bits are the scale s).
//!
//! `w[i] = d * (0.5 + s[i / 32]) * 0.25 * grid[qs[i / 8]][i % 8] * sign[i]`

use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    chunks: [Chunk; 8],
}
const _: () = assert!(size_of::<Block>() == 66);

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
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs, signs", 64 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_nibbles(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq2_xxs.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        for (chunk, out) in b.chunks.iter().zip(out.as_chunks_mut::<32>().0) {
            let signs = u32::from_le_bytes(chunk.signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.25;
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *out = grid::signed(&GRID[usize::from(chunk.qs[l])], d, grid::even_signs(signs >> (7 * l)));
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (c, chunk) in b.chunks.iter().enumerate() {
            let to = 2 * (8 * i + c);
            planes[0][to] = u32::from_le_bytes(chunk.qs);
            planes[0][to + 1] = grid::pack_even_signs(u32::from_le_bytes(chunk.signs));
        }
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for (c, chunk) in b.chunks.iter_mut().enumerate() {
            let from = 2 * (8 * i + c);
            chunk.qs = planes[0][from].to_le_bytes();
            chunk.signs = grid::unpack_even_signs(planes[0][from + 1]).to_le_bytes();
        }
        b.d = bits::get_half(planes[1], i);
    }
}
