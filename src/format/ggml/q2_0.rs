//! Q2_0: 64 weights in 18 bytes: d (f16), qs[16] (two bits each, in order).
//!
//! `w[i] = (q[i] - 1) * d`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q2_0 {
    d: [u8; 2],
    qs: [[u8; 8]; 2],
}
const _: () = assert!(size_of::<Q2_0>() == 18);

pub static FORMAT: Format = Format {
    name: "Q2_0",
    stem: "q2_0",
    gguf_type: Some(42),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q2_0>()),
    shader: include_str!("../../../shaders/decode/q2_0.wgsl"),
};

/// Codes of 32 weights.
fn codes(qs: &[u8; 8]) -> [u8; 32] {
    std::array::from_fn(|e| qs[e / 4] >> (e % 4 * 2) & 3)
}

/// Inverse of [`codes`].
fn join(codes: &[u8; 32]) -> [u8; 8] {
    let codes = codes.as_chunks::<4>().0;
    std::array::from_fn(|j| (0..4).fold(0, |byte, e| byte | codes[j][e] << (2 * e)))
}

impl Block for Q2_0 {
    type Weights = [f32; 64];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 2 * 256), Plane::new("d", 16 * 4)];

    fn decode(&self, out: &mut [f32; 64]) {
        let d = bits::half(self.d);
        for (qs, out) in self.qs.iter().zip(out.as_chunks_mut::<32>().0) {
            *out = codes(qs).map(|q| (f32::from(q) - 1.0) * d);
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs.map(|qs| bits::pack_pairs(&codes(&qs))));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let qs: [[u32; 2]; 2] = from.get(0);
        Self { d: from.get(1), qs: qs.map(|pairs| join(&bits::unpack_pairs(&pairs))) }
    }
}
