//! Q1_0: 128 weights in 18 bytes: d (f16), qs[16] (one bit each, in order).
//!
//! `w[i] = q[i] == 1 ? d : -d`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q1_0 {
    d: [u8; 2],
    qs: [[u8; 4]; 4],
}
const _: () = assert!(size_of::<Q1_0>() == 18);

pub static FORMAT: Format = Format {
    name: "Q1_0",
    stem: "q1_0",
    gguf_type: Some(41),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q1_0>()),
    shader: include_str!("../../../shaders/decode/q1_0.wgsl"),
};

impl Block for Q1_0 {
    type Weights = [f32; 128];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 256), Plane::new("d", 16 * 2)];

    fn decode(&self, out: &mut [f32; 128]) {
        let d = bits::half(self.d);
        for (qs, out) in self.qs.iter().zip(out.as_chunks_mut::<32>().0) {
            let qs = u32::from_le_bytes(*qs);
            *out = std::array::from_fn(|e| if qs >> e & 1 == 1 { d } else { -d });
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs.map(|qs| bits::pack_bits(u32::from_le_bytes(qs))));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let qs: [u32; 4] = from.get(0);
        Self { d: from.get(1), qs: qs.map(|word| bits::unpack_bits(word).to_le_bytes()) }
    }
}
