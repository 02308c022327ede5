//! F16: IEEE half precision.
//!
//! `w[i] = f32(w[i])`; encoded by rounding to nearest even.

use crate::format::plain::{EncodeNumber, Number};
use crate::format::{Blocks, Codes, Coding, Format};
use half::f16;

pub static FORMAT: Format = Format {
    name: "F16",
    stem: "f16",
    gguf_type: Some(1),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_encoded_numbers::<f16>()),
    shader: include_str!("../../../shaders/decode/f16.wgsl"),
};

impl Number for f16 {
    type Bytes = [u8; 2];

    fn weight(bytes: [u8; 2]) -> f32 {
        Self::from_le_bytes(bytes).to_f32()
    }

    fn is_finite(bytes: [u8; 2]) -> bool {
        Self::from_le_bytes(bytes).is_finite()
    }
}

impl EncodeNumber for f16 {
    fn encode(w: f32) -> [u8; 2] {
        Self::from_f32(w).to_le_bytes()
    }
}
