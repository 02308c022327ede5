//! Q4_0: 32 weights in 18 bytes: d (f16), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * (q[i] - 8)`

use crate::format::block::{Block, EncodeBlock, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q4_0 {
    d: [u8; 2],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Q4_0>() == 18);

pub static FORMAT: Format = Format {
    name: "Q4_0",
    stem: "q4_0",
    gguf_type: Some(2),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_encoded::<Q4_0>()),
    shader: include_str!("../../../shaders/decode/q4_0.wgsl"),
};

impl Block for Q4_0 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        *out = bits::split_halves(&self.qs).map(|q| d * (f32::from(q) - 8.0));
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_halved_nibbles(&self.qs));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { d: from.get(1), qs: bits::join_halves(&bits::unpack_nibbles(&from.get(0))) }
    }
}

impl EncodeBlock for Q4_0 {
    /// `d` is the weight of largest magnitude, with its sign, over -8; codes round half up and stop
    /// at 15.
    fn encode(w: &[f32; 32]) -> Self {
        let max = w.iter().fold(0f32, |max, w| if w.abs() > max.abs() { *w } else { max });
        let d = max / -8.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate(w * id + 8.5).min(15) as u8);
        Self { d: bits::to_half(d), qs: bits::join_halves(&codes) }
    }
}
