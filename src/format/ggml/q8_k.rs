//! Q8_K: 256 weights in 292 bytes: d (f32), qs[256] (signed bytes), bsums[16] (i16, sums of 16 q).
//!
//! `w[i] = d * q[i]`; ggml quantizes activations into it, and `bsums` are for its dot products
//! alone

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q8K {
    d: [u8; 4],
    qs: [i8; 256],
    bsums: [u8; 32],
}
const _: () = assert!(size_of::<Q8K>() == 292);

pub static FORMAT: Format = Format {
    name: "Q8_K",
    stem: "q8_k",
    gguf_type: Some(15),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q8K>()),
    shader: include_str!("../../../shaders/decode/q8_k.wgsl"),
};

impl Block for Q8K {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 8 * 256), Plane::new("d", 32), Plane::new("bsums", 16 * 16)];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = f32::from_le_bytes(self.d);
        *out = self.qs.map(|q| d * f32::from(q));
    }

    /// A finite scale of 32 bits times a code may be infinite, so it is the products that count.
    fn is_finite(&self) -> bool {
        let d = f32::from_le_bytes(self.d);
        self.qs.iter().all(|q| (d * f32::from(*q)).is_finite())
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs);
        to.put(1, self.d);
        to.put(2, self.bsums);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { d: from.get(1), qs: from.get(0), bsums: from.get(2) }
    }
}
