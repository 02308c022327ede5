//! IQ2_S: 256 weights in 82 bytes: d (f16), qs[32] (low bytes of the entries of the grid, 8 weights each), signs[32], qh[8]
//! (two high bits of each entry), scales[8] (a nibble s for each 16 weights, low first).
//!
//! `w[i] = d * (0.5 + s[i / 16]) * 0.25 * grid[q[i / 8]][i % 8] * sign[i]`

use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [[u8; 4]; 8],
    signs: [[u8; 4]; 8],
    qh: [u8; 8],
    scales: [u8; 8],
}
const _: () = assert!(size_of::<Block>() == 82);

static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq2_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ2_S",
    stem: "iq2_s",
    gguf_type: Some(22),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs, signs", 64 * 8), Plane::new("qh, scales", 16 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_nibbles(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq2_s.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (c, half) = (i / 2, i % 2);
            let d = d * (0.5 + f32::from(b.scales[c] >> (half * 4) & 15)) * 0.25;
            for (l, out) in (2 * half..).zip(out.as_chunks_mut::<8>().0) {
                let q = usize::from(b.qs[c][l]) | usize::from(b.qh[c]) << (8 - 2 * l) & 0x300;
                *out = grid::signed(&GRID[q], d, b.signs[c][l]);
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            planes[0][2 * chunk] = u32::from_le_bytes(b.qs[c]);
            planes[0][2 * chunk + 1] = grid::pack_signs(u32::from_le_bytes(b.signs[c]));
            bits::put_half(planes[1], chunk, [b.qh[c], b.scales[c]]);
        }
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            b.qs[c] = planes[0][2 * chunk].to_le_bytes();
            b.signs[c] = grid::unpack_signs(planes[0][2 * chunk + 1]).to_le_bytes();
            [b.qh[c], b.scales[c]] = bits::get_half(planes[1], chunk);
        }
        b.d = bits::get_half(planes[2], i);
    }
}
