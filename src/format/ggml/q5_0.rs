//! Q5_0: 32 weights in 22 bytes: d (f16), qh (u32, fifth bits), qs[16] (low nibbles = weights
//! 0..15, high = 16..31).
//!
//! `w[i] = d * (q[i] - 16)`

use crate::format::block::{Block, EncodeBlock, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q5_0 {
    d: [u8; 2],
    qh: [u8; 4],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Q5_0>() == 22);

pub static FORMAT: Format = Format {
    name: "Q5_0",
    stem: "q5_0",
    gguf_type: Some(6),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of_encoded::<Q5_0>()),
    shader: include_str!("../../../shaders/decode/q5_0.wgsl"),
};

fn codes(b: &Q5_0) -> [u8; 32] {
    bits::add_fifth_bits(&bits::split_halves(&b.qs), u32::from_le_bytes(b.qh))
}

impl Block for Q5_0 {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 4 * 256), Plane::new("qh", 256), Plane::new("d", 16 * 8)];

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        *out = codes(self).map(|q| d * (f32::from(q) - 16.0));
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_halved_nibbles(&self.qs));
        to.put(1, bits::pack_bits(u32::from_le_bytes(self.qh)));
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self {
            d: from.get(2),
            qh: bits::unpack_bits(from.get(1)).to_le_bytes(),
            qs: bits::join_halves(&bits::unpack_nibbles(&from.get(0))),
        }
    }
}

impl EncodeBlock for Q5_0 {
    /// `d` is the weight of largest magnitude, with its sign, over -16; codes round half up and
    /// stop at 31.
    fn encode(w: &[f32; 32]) -> Self {
        let max = w.iter().fold(0f32, |max, w| if w.abs() > max.abs() { *w } else { max });
        let d = max / -16.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate(w * id + 16.5).min(31) as u8);
        let qh = bits::fifth_bits(&codes).to_le_bytes();
        Self { d: bits::to_half(d), qh, qs: bits::join_halves(&codes) }
    }
}
