//! IQ4_NL: 32 weights in 18 bytes: d (f16), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * book[q[i]]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq4Nl {
    d: [u8; 2],
    qs: [u8; 16],
}
/// The values of the sixteen codes, IQ4_XS's too.
pub const VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

const _: () = assert!(size_of::<Iq4Nl>() == 18);

pub static FORMAT: Format = Format {
    name: "IQ4_NL",
    stem: "iq4_nl",
    gguf_type: Some(20),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq4Nl>()),
    shader: include_str!("../../../shaders/decode/iq4_nl.wgsl"),
};

impl Block for Iq4Nl {
    type Weights = [f32; 32];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)];

    const CODEBOOK: Codebook = Codebook::Sixteen(VALUES);

    fn decode(&self, out: &mut [f32; 32]) {
        let d = bits::half(self.d);
        *out = bits::split_halves(&self.qs).map(|q| d * VALUES[usize::from(q)]);
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
