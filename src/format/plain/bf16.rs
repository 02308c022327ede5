//! BF16: the upper half of an IEEE single.
//!
//! `w[i] = f32 with bits w[i] << 16`; encoded by rounding to nearest even, NaN made quiet.

use crate::format::plain::{EncodeNumber, Number};
use crate::format::{Blocks, Codes, Coding, Format};
use half::bf16;

pub static FORMAT: Format = Format {
    name: "BF16",
    stem: "bf16",
    gguf_type: Some(30),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_encoded_numbers::<bf16>()),
    shader: include_str!("../../../shaders/decode/bf16.wgsl"),
};

impl Number for bf16 {
    type Bytes = [u8; 2];

    fn weight(bytes: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
    }

    fn is_finite(bytes: [u8; 2]) -> bool {
        Self::from_le_bytes(bytes).is_finite()
    }
}

impl EncodeNumber for bf16 {
    fn encode(w: f32) -> [u8; 2] {
        Self::from_f32(w).to_le_bytes()
    }
}
