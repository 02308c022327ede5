//! I16: signed 16-bit integers.
//!
//! `w[i] = f32(w[i])`

use crate::format::plain::Number;
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "I16",
    stem: "i16",
    gguf_type: Some(25),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_numbers::<i16>()),
    shader: include_str!("../../../shaders/decode/i16.wgsl"),
};

impl Number for i16 {
    type Bytes = [u8; 2];

    fn weight(bytes: [u8; 2]) -> f32 {
        f32::from(Self::from_le_bytes(bytes))
    }
}
