//! I64: signed 64-bit integers.
//!
//! `w[i] = f32(w[i])`, rounded to nearest even beyond 2^24.

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};

pub static FORMAT: Format = Format {
    name: "I64",
    stem: "i64",
    gguf_type: Some(27),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 8,
        decode,
        encode: None,
        is_finite: |_| true,
        planes: &[Plane::new("w", 256 * 64)],
        pack: bits::pack_plain,
        unpack: bits::unpack_plain,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/i64.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(row.as_chunks().0).for_each(|(out, w)| *out = i64::from_le_bytes(*w) as f32);
}
