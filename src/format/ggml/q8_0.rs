//! Q8_0: 32 weights in 34 bytes: d (f16), qs[32] (signed bytes).
//!
//! `w[i] = d * q[i]`

use crate::format::block::{Block, EncodeBlock, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q8_0 {
    d: [u8; 2],
    qs: [i8; 32],
}
const _: () = assert!(size_of::<Q8_0>() == 34);

pub static FORMAT: Format = Format {
    name: "Q8_0",
    stem: "q8_0",
    gguf_type: Some(8),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_encoded::<Q8_0>()),
    shader: include_str!("../../../shaders/decode/q8_0.wgsl"),
};

impl Block for Q8_0 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 8 * 256), Plane::new("d", 16 * 8)];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        *out = self.qs.map(|q| d * f32::from(q));
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs);
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { d: from.get(1), qs: from.get(0) }
    }
}

impl EncodeBlock for Q8_0 {
    /// `d` is the largest magnitude over 127; codes round half away from zero.
    fn encode(w: &[f32; 32]) -> Self {
        let d = w.iter().fold(0f32, |max, w| max.max(w.abs())) / 127.0;
        let id = bits::inverse(d);
        let qs = w.map(|w| bits::truncate((w * id).round()) as i8);
        Self { d: bits::to_half(d), qs }
    }
}
