//! I32: signed 32-bit integers.
//!
//! `w[i] = f32(w[i])`, rounded to nearest even beyond 2^24.

use crate::format::plain::Number;
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "I32",
    stem: "i32",
    gguf_type: Some(26),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_numbers::<i32>()),
    shader: include_str!("../../../shaders/decode/i32.wgsl"),
};

impl Number for i32 {
    type Bytes = [u8; 4];

    fn weight(bytes: [u8; 4]) -> f32 {
        Self::from_le_bytes(bytes) as f32
    }
}
