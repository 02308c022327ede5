//! Q8_1: 32 weights in 36 bytes: d (f16), s (f16, `d * sum of q`), qs[32] (signed bytes).
//!
//! `w[i] = d * q[i]`; ggml quantizes activations into it, and `s` is for its dot products alone

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q8_1 {
    d: [u8; 2],
    s: [u8; 2],
    qs: [i8; 32],
}
const _: () = assert!(size_of::<Q8_1>() == 36);

pub static FORMAT: Format = Format {
    name: "Q8_1",
    stem: "q8_1",
    gguf_type: Some(9),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q8_1>()),
    shader: include_str!("../../../shaders/decode/q8_1.wgsl"),
};

impl Block for Q8_1 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 8 * 256), Plane::new("d", 16 * 8), Plane::new("s", 16 * 8)];

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
        to.put(2, self.s);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { d: from.get(1), s: from.get(2), qs: from.get(0) }
    }
}
