//! IQ1_S: 256 weights in 50 bytes: d (f16), qs[32] (low bytes of the entries of the grid, 8 weights each), qh[8] (u16 for each
//! 32 weights: four times three high bits of the entries, three bits scale s, one bit the sign of delta).
//!
//! `w[i] = d * (2 * s[i / 32] + 1) * (grid[q[i / 8]][i % 8] ± 0.125)`

use crate::format::ggml::grid;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [[u8; 4]; 8],
    qh: [[u8; 2]; 8],
}
const _: () = assert!(size_of::<Block>() == 50);

/// The values of the entries, IQ1_M's too.
pub static GRID: &[[u8; 8]] = grid::entries(include_bytes!("../tables/iq1_s_grid.bin"));

pub static FORMAT: Format = Format {
    name: "IQ1_S",
    stem: "iq1_s",
    gguf_type: Some(19),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 32 * 8), Plane::new("qh", 16 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_pairs(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq1_s.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        for ((qs, qh), out) in b.qs.iter().zip(b.qh).zip(out.as_chunks_mut::<32>().0) {
            let qh = u16::from_le_bytes(qh);
            let d = d * f32::from(2 * (qh >> 12 & 7) + 1);
            let delta = if qh & 0x8000 == 0 { 0.125 } else { -0.125 };
            for (l, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let q = usize::from(qs[l]) | usize::from(qh >> (3 * l) & 7) << 8;
                *out = grid::shifted(&GRID[q], d, delta);
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for c in 0..8 {
            planes[0][8 * i + c] = u32::from_le_bytes(b.qs[c]);
            bits::put_half(planes[1], 8 * i + c, b.qh[c]);
        }
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for c in 0..8 {
            b.qs[c] = planes[0][8 * i + c].to_le_bytes();
            b.qh[c] = bits::get_half(planes[1], 8 * i + c);
        }
        b.d = bits::get_half(planes[2], i);
    }
}
