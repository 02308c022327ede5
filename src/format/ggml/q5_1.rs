//! Q5_1: 32 weights in 24 bytes: d, m (f16), qh (u32, fifth bits), qs[16] (low nibbles = weights
//! 0..15, high = 16..31).
//!
//! `w[i] = d * q[i] + m`

use crate::format::block::{Block, EncodeBlock, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q5_1 {
    d: [u8; 2],
    m: [u8; 2],
    qh: [u8; 4],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Q5_1>() == 24);

pub static FORMAT: Format = Format {
    name: "Q5_1",
    stem: "q5_1",
    gguf_type: Some(7),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_encoded::<Q5_1>()),
    shader: include_str!("../../../shaders/decode/q5_1.wgsl"),
};

fn codes(b: &Q5_1) -> [u8; 32] {
    bits::add_fifth_bits(&bits::split_halves(&b.qs), u32::from_le_bytes(b.qh))
}

impl Block for Q5_1 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 4 * 256), Plane::new("qh", 256), Plane::new("dm", 32 * 8)];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        let m = bits::half(self.m);
        *out = codes(self).map(|q| d * f32::from(q) + m);
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d) && bits::finite(self.m)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_halved_nibbles(&self.qs));
        to.put(1, bits::pack_bits(u32::from_le_bytes(self.qh)));
        to.put(2, [self.d, self.m]);
    }

    fn unpack(from: &Unpacker) -> Self {
        let [d, m] = from.get(2);
        Self {
            d,
            m,
            qh: bits::unpack_bits(from.get(1)).to_le_bytes(),
            qs: bits::join_halves(&bits::unpack_nibbles(&from.get(0))),
        }
    }
}

impl EncodeBlock for Q5_1 {
    /// `d` spans smallest to largest weight in 31 steps from `m`; codes round half up.
    fn encode(w: &[f32; 32]) -> Self {
        let min = w.iter().fold(f32::MAX, |min, w| if *w < min { *w } else { min });
        let max = w.iter().fold(-f32::MAX, |max, w| if *w > max { *w } else { max });
        let d = (max - min) / 31.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate((w - min) * id + 0.5) as u8);
        let qh = bits::fifth_bits(&codes).to_le_bytes();
        Self { d: bits::to_half(d), m: bits::to_half(min), qh, qs: bits::join_halves(&codes) }
    }
}
