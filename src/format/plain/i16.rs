//! I16: signed 16-bit integers.
//!
//! `w[i] = f32(w[i])`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};

pub static FORMAT: Format = Format {
    name: "I16",
    stem: "i16",
    gguf_type: Some(25),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 2,
        decode,
        encode: None,
        is_finite: |_| true,
        planes: &[Plane::new("w", 256 * 16)],
        pack: bits::pack_plain,
        unpack: bits::unpack_plain,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/i16.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(row.as_chunks().0).for_each(|(out, w)| *out = f32::from(i16::from_le_bytes(*w)));
}
