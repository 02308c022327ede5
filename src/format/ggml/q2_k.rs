//! Q2_K: 256 weights in 84 bytes: sc[16] (scale in the low nibble, minimum in the high one, for 16
//! weights each), qs[64], d, dmin (f16).
//!
//! `w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q2K {
    sc: [u8; 16],
    qs: [u8; 64],
    d: [u8; 2],
    dmin: [u8; 2],
}
const _: () = assert!(size_of::<Q2K>() == 84);

pub static FORMAT: Format = Format {
    name: "Q2_K",
    stem: "q2_k",
    gguf_type: Some(10),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q2K>()),
    shader: include_str!("../../../shaders/decode/q2_k.wgsl"),
};

impl Block for Q2K {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 2 * 256), Plane::new("sc", 16 * 8), Plane::new("dm", 32)];

    fn decode(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (bits::half(self.d), bits::half(self.dmin));
        let q = bits::split_quarters(&self.qs);
        for (i, (q, out)) in q.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).enumerate() {
            let (d, m) = (d * f32::from(self.sc[i] & 15), dmin * f32::from(self.sc[i] >> 4));
            *out = q.map(|q| d * f32::from(q) - m);
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d) && bits::finite(self.dmin)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_quarters(&self.qs));
        to.put(1, self.sc);
        to.put(2, [self.d, self.dmin]);
    }

    fn unpack(from: &Unpacker) -> Self {
        let [d, dmin] = from.get(2);
        Self { sc: from.get(1), qs: bits::unpack_quarters(&from.get(0)), d, dmin }
    }
}
