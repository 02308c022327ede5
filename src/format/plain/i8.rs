//! I8: signed bytes.
//!
//! `w[i] = f32(w[i])`

use crate::format::plain::Number;
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "I8",
    stem: "i8",
    gguf_type: Some(24),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_numbers::<i8>()),
    shader: include_str!("../../../shaders/decode/i8.wgsl"),
};

impl Number for i8 {
    type Bytes = [u8; 1];

    fn weight(bytes: [u8; 1]) -> f32 {
        f32::from(Self::from_le_bytes(bytes))
    }
}
