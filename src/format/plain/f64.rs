//! F64: IEEE double precision.
//!
//! `w[i] = f32(w[i])`, rounded to nearest even; what no f32 holds is infinite, and refused as such.

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};

pub static FORMAT: Format = Format {
    name: "F64",
    stem: "f64",
    gguf_type: Some(28),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 8,
        decode,
        encode: None,
        is_finite: |row| weights(row).all(f32::is_finite),
        planes: &[Plane::new("w", 256 * 64)],
        pack: bits::pack_plain,
        unpack: bits::unpack_plain,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/f64.wgsl"),
};

fn weights(row: &[u8]) -> impl Iterator<Item = f32> {
    row.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32)
}

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(weights(row)).for_each(|(out, w)| *out = w);
}
