//! I8: signed bytes.
//!
//! `w[i] = f32(w[i])`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};

pub static FORMAT: Format = Format {
    name: "I8",
    stem: "i8",
    gguf_type: Some(24),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 1,
        bytes: 1,
        decode,
        encode: None,
        is_finite: |_| true,
        planes: &[Plane::new("w", 256 * 8)],
        pack: bits::pack_plain,
        unpack: bits::unpack_plain,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/i8.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(row).for_each(|(out, w)| *out = f32::from(*w as i8));
}
