//! IQ1_M: 256 weights in 56 bytes: qs[32] (low bytes of the entries of IQ1_S's grid, 8 weights each), qh[16] (a nibble for
//! each: three high bits of the entry, one bit the sign of delta), scales[4] (u16: four times three bits s for 16 weights
//! each, and on top a nibble of d, lowest first).
//!
//! `w[i] = d * (2 * s[i / 16] + 1) * (grid[q[i / 8]][i % 8] ± 0.125)`

use crate::format::ggml::grid;
use crate::format::ggml::iq1_s::GRID;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    qs: [[u8; 4]; 8],
    qh: [[u8; 2]; 8],
    scales: [[u8; 2]; 4],
}
const _: () = assert!(size_of::<Block>() == 56);

pub static FORMAT: Format = Format {
    name: "IQ1_M",
    stem: "iq1_m",
    gguf_type: Some(29),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(d(b))),
        planes: &[
            Plane::new("qs", 32 * 8),
            Plane::new("qh", 16 * 8),
            // Two words, each eight scales of three bits and a byte of d.
            Plane::new("scales, d", 64),
        ],
        pack,
        unpack,
        book: Codebook::Grid(|| grid::words_of_pairs(GRID)),
    }),
    shader: include_str!("../../../shaders/decode/iq1_m.wgsl"),
};

/// The f16 in the top nibbles of the scales.
fn d(b: &Block) -> [u8; 2] {
    let [s0, s1, s2, s3] = b.scales.map(|[_, high]| high);
    [s0 >> 4 | s1 & 0xf0, s2 >> 4 | s3 & 0xf0]
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(d(b));
        for (c, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scales = u16::from_le_bytes(b.scales[c / 2]) >> (c % 2 * 6);
            for (half, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let d = d * f32::from(2 * (scales >> (3 * half) & 7) + 1);
                decode16([b.qs[c][2 * half], b.qs[c][2 * half + 1]], b.qh[c][half], d, out);
            }
        }
    }
}

/// Two entries of the grid, their nibbles in `qh`.
fn decode16(qs: [u8; 2], qh: u8, d: f32, out: &mut [f32; 16]) {
    for ((q, h), out) in qs.into_iter().zip([qh & 15, qh >> 4]).zip(out.as_chunks_mut::<8>().0) {
        let delta = [0.125, -0.125][usize::from(h >> 3)];
        *out = grid::shifted(&GRID[usize::from(q) | usize::from(h & 7) << 8], d, delta);
    }
}

/// Two of the four u16 as a word: their scales, then their nibbles of d.
fn pack_scales([a, b]: [[u8; 2]; 2]) -> u32 {
    let [a, b] = [a, b].map(|s| u32::from(u16::from_le_bytes(s)));
    a & 0xfff | (b & 0xfff) << 12 | a >> 12 << 24 | b >> 12 << 28
}

/// Inverse of [`pack_scales`].
fn unpack_scales(word: u32) -> [[u8; 2]; 2] {
    [word & 0xfff | word >> 24 << 12, word >> 12 & 0xfff | word >> 28 << 12].map(|s| (s as u16).to_le_bytes())
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for c in 0..8 {
            planes[0][8 * i + c] = u32::from_le_bytes(b.qs[c]);
            bits::put_half(planes[1], 8 * i + c, b.qh[c]);
        }
        let [s0, s1, s2, s3] = b.scales;
        planes[2][2 * i] = pack_scales([s0, s1]);
        planes[2][2 * i + 1] = pack_scales([s2, s3]);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for c in 0..8 {
            b.qs[c] = planes[0][8 * i + c].to_le_bytes();
            b.qh[c] = bits::get_half(planes[1], 8 * i + c);
        }
        let [s0, s1] = unpack_scales(planes[2][2 * i]);
        let [s2, s3] = unpack_scales(planes[2][2 * i + 1]);
        b.scales = [s0, s1, s2, s3];
    }
}
