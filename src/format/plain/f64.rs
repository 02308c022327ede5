//! F64: IEEE double precision.
//!
//! `w[i] = f32(w[i])`, rounded to nearest even; what no f32 holds is infinite, and refused as such.

use crate::format::plain::Number;
use crate::format::{Blocks, Codes, Coding, Format};

pub static FORMAT: Format = Format {
    name: "F64",
    stem: "f64",
    gguf_type: Some(28),
    codes: Codes::None,
    coding: Coding::Blocks(Blocks::of_numbers::<f64>()),
    shader: include_str!("../../../shaders/decode/f64.wgsl"),
};

impl Number for f64 {
    type Bytes = [u8; 8];

    fn weight(bytes: [u8; 8]) -> f32 {
        Self::from_le_bytes(bytes) as f32
    }
}
