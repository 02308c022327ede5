//! F32: plain IEEE single precision.
//!
//! `w[i] = w[i]`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane};

pub static FORMAT: Format = Format {
    name: "F32",
    stem: "f32",
    gguf_type: Some(0),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 4,
        decode,
        encode: Some(encode),
        is_finite: |row| words(row).all(|w| f32::from_bits(w).is_finite()),
        planes: &[Plane::new("w", 256 * 32)],
        pack: |row, planes| planes[0].iter_mut().zip(words(row)).for_each(|(to, w)| *to = w),
        unpack: |planes, row| row.copy_from_slice(&bytemuck::cast_slice(planes[0])[..row.len()]),
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/f32.wgsl"),
};

fn words(row: &[u8]) -> impl Iterator<Item = u32> {
    row.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(words(row)).for_each(|(out, w)| *out = f32::from_bits(w));
}

fn encode(weights: &[f32], row: &mut [u8]) {
    row.as_chunks_mut().0.iter_mut().zip(weights).for_each(|(to, w)| *to = w.to_le_bytes());
}
