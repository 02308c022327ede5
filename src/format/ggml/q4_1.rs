//! Q4_1: 32 weights in 20 bytes: d, m (f16), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * q[i] + m`

use crate::format::block::{Block, EncodeBlock, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q4_1 {
    d: [u8; 2],
    m: [u8; 2],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Q4_1>() == 20);

pub static FORMAT: Format = Format {
    name: "Q4_1",
    stem: "q4_1",
    gguf_type: Some(3),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_encoded::<Q4_1>()),
    shader: include_str!("../../../shaders/decode/q4_1.wgsl"),
};

impl Block for Q4_1 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 4 * 256), Plane::new("dm", 32 * 8)];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        let m = bits::half(self.m);
        *out = bits::split_halves(&self.qs).map(|q| d * f32::from(q) + m);
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d) && bits::finite(self.m)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_halved_nibbles(&self.qs));
        to.put(1, [self.d, self.m]);
    }

    fn unpack(from: &Unpacker) -> Self {
        let [d, m] = from.get(1);
        Self { d, m, qs: bits::join_halves(&bits::unpack_nibbles(&from.get(0))) }
    }
}

impl EncodeBlock for Q4_1 {
    /// `d` spans smallest to largest weight in 15 steps from `m`; codes round half up.
    fn encode(w: &[f32; 32]) -> Self {
        let min = w.iter().fold(f32::MAX, |min, w| if *w < min { *w } else { min });
        let max = w.iter().fold(-f32::MAX, |max, w| if *w > max { *w } else { max });
        let d = (max - min) / 15.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate((w - min) * id + 0.5).min(15) as u8);
        Self { d: bits::to_half(d), m: bits::to_half(min), qs: bits::join_halves(&codes) }
    }
}
