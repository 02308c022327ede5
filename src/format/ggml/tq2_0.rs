//! TQ2_0: 256 weights in 66 bytes: qs[64] (two bits each), d (f16).
//!
//! `w[i] = (q[i] - 1) * d`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Tq2_0 {
    qs: [u8; 64],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Tq2_0>() == 66);

pub static FORMAT: Format = Format {
    name: "TQ2_0",
    stem: "tq2_0",
    gguf_type: Some(35),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Tq2_0>()),
    shader: include_str!("../../../shaders/decode/tq2_0.wgsl"),
};

impl Block for Tq2_0 {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] = &[Plane::new("qs", 2 * 256), Plane::new("d", 16)];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        *out = bits::split_quarters(&self.qs).map(|q| (f32::from(q) - 1.0) * d);
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_quarters(&self.qs));
        to.put(1, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { qs: bits::unpack_quarters(&from.get(0)), d: from.get(1) }
    }
}
