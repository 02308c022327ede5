//! F32: plain IEEE single precision.
//!
//! `w[i] = w[i]`

use crate::format::plain::{EncodeNumber, Number};
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "F32",
    stem: "f32",
    gguf_type: Some(0),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_encoded_numbers::<f32>()),
    shader: include_str!("../../../shaders/decode/f32.wgsl"),
};

impl Number for f32 {
    type Bytes = [u8; 4];

    fn weight(bytes: [u8; 4]) -> f32 {
        Self::from_le_bytes(bytes)
    }
}

impl EncodeNumber for f32 {
    fn encode(w: f32) -> [u8; 4] {
        w.to_le_bytes()
    }
}
