//! BF16: the upper half of an IEEE single.
//!
//! `w[i] = f32 with bits w[i] << 16`; encoded by rounding to nearest even, NaN made quiet.

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};

pub static FORMAT: Format = Format {
    name: "BF16",
    stem: "bf16",
    gguf_type: Some(30),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 2,
        decode,
        encode: Some(encode),
        is_finite: |row| halves(row).all(|h| half::bf16::from_bits(h).is_finite()),
        planes: &[Plane::new("w", 256 * 16)],
        pack: bits::pack_halves,
        unpack: bits::unpack_halves,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/bf16.wgsl"),
};

fn halves(row: &[u8]) -> impl Iterator<Item = u16> {
    row.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes))
}

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(halves(row)).for_each(|(out, h)| *out = f32::from_bits(u32::from(h) << 16));
}

fn encode(weights: &[f32], row: &mut [u8]) {
    row.as_chunks_mut()
        .0
        .iter_mut()
        .zip(weights)
        .for_each(|(to, w)| *to = half::bf16::from_f32(*w).to_le_bytes());
}
