//! IQ3_S: 256 weights in 110 bytes: d (f16), qs[64] (low bytes of the entries of the grid, 4 weights each), qh[8] (ninth bit
//! of each entry), signs[32], scales[4] (a nibble s for each 32 weights, low first).
//!
//! `w[i] = d * (1 + 2 * s[i / 32]) * grid[q[i / 4]][i % 4] * sign[i]`

use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [[u8; 8]; 8],
    qh: [u8; 8],
    signs: [[u8; 4]; 8],
    scales: [u8; 4],
}
const _: () = assert!(size_of::<Block>() == 110);

static GRID: &[[u8; 4]] = grid::entries(include_bytes!("../tables/iq3_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ3_S",
    stem: "iq3_s",
    gguf_type: Some(21),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[
            Plane::new("qs", 64 * 8),
            Plane::new("signs", 32 * 8),
            // Two words of qh, one of scales.
            Plane::new("qh, scales", 3 * 32),
            Plane::new("d", 16),
        ],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_quads(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq3_s.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        for (c, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let d = d * f32::from(1 + 2 * (b.scales[c / 2] >> (c % 2 * 4) & 15));
            let entry = |i: usize| GRID[usize::from(b.qs[c][i]) | usize::from(b.qh[c]) << (8 - i) & 0x100];
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let values = grid::joined(entry(2 * l), entry(2 * l + 1));
                *out = grid::signed(&values, d, b.signs[c][l]);
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            planes[0][2 * chunk..2 * chunk + 2].copy_from_slice(&bytemuck::cast::<_, [u32; 2]>(b.qs[c]));
            planes[1][chunk] = grid::pack_signs(u32::from_le_bytes(b.signs[c]));
        }
        planes[2][3 * i..3 * i + 2].copy_from_slice(&bytemuck::cast::<_, [u32; 2]>(b.qh));
        planes[2][3 * i + 2] = u32::from_le_bytes(b.scales);
        bits::put_half(planes[3], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for c in 0..8 {
            let chunk = 8 * i + c;
            b.qs[c].copy_from_slice(bytemuck::cast_slice(&planes[0][2 * chunk..2 * chunk + 2]));
            b.signs[c] = grid::unpack_signs(planes[1][chunk]).to_le_bytes();
        }
        b.qh.copy_from_slice(bytemuck::cast_slice(&planes[2][3 * i..3 * i + 2]));
        b.scales = planes[2][3 * i + 2].to_le_bytes();
        b.d = bits::get_half(planes[3], i);
    }
}
