//! NVFP4: 64 weights in 36 bytes: d[4] (unsigned E4M3, one for 16 weights), qs[32] (E2M1; eight
//! bytes for 16 weights: low nibbles = weights 0..7, high = 8..15).
//!
//! `w[i] = d[i / 16] / 2 * book[q[i]]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::microscale::mxfp4::VALUES;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Nvfp4 {
    d: [u8; 4],
    qs: [[u8; 8]; 4],
}
const _: () = assert!(size_of::<Nvfp4>() == 36);

pub static FORMAT: Format = Format {
    name: "NVFP4",
    stem: "nvfp4",
    gguf_type: Some(40),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Nvfp4>()),
    shader: include_str!("../../../shaders/decode/nvfp4.wgsl"),
};

/// Half of an unsigned E4M3 number. Its bits are those of an f16 but for the exponent's bias; the
/// eighth bit does not count, and 0x7f, the NaN, is 0.
fn scale(d: u8) -> f32 {
    match d {
        0x7f => 0.0,
        _ => half::f16::from_bits(u16::from(d & 0x7f) << 7).to_f32() * 128.0,
    }
}

/// The codes of 16 weights.
fn codes(qs: &[u8; 8]) -> [u8; 16] {
    std::array::from_fn(|e| if e < 8 { qs[e] & 15 } else { qs[e - 8] >> 4 })
}

/// The codes of half a block.
fn codes32(qs: &[[u8; 8]]) -> [u8; 32] {
    std::array::from_fn(|e| codes(&qs[e / 16])[e % 16])
}

impl Block for Nvfp4 {
    type Weights = [f32; 64];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)];

    const CODEBOOK: Codebook = Codebook::Sixteen(VALUES);

    fn decode(&self, out: &mut [f32; 64]) {
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = scale(self.d[i]);
            *out = codes(&self.qs[i]).map(|q| d * VALUES[usize::from(q)]);
        }
    }

    fn is_finite(&self) -> bool {
        true
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, [&self.qs[..2], &self.qs[2..]].map(|qs| bits::pack_nibbles(&codes32(qs))));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let codes: [[u32; 4]; 2] = from.get(0);
        let codes = codes.map(|words| bits::unpack_nibbles(&words));
        let qs = |s: usize| {
            let codes = &codes[s / 2][s % 2 * 16..];
            std::array::from_fn(|j| codes[j] | codes[8 + j] << 4)
        };
        Self { d: from.get(1), qs: std::array::from_fn(qs) }
    }
}
