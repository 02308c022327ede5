//! I64: signed 64-bit integers.
//!
//! `w[i] = f32(w[i])`, rounded to nearest even beyond 2^24.

use crate::format::plain::Number;
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "I64",
    stem: "i64",
    gguf_type: Some(27),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_numbers::<i64>()),
    shader: include_str!("../../../shaders/decode/i64.wgsl"),
};

impl Number for i64 {
    type Bytes = [u8; 8];

    fn weight(bytes: [u8; 8]) -> f32 {
        Self::from_le_bytes(bytes) as f32
    }
}
