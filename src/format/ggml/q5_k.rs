//! Q5_K: 256 weights in 176 bytes: d, dmin (f16), scales[12] (a scale and a minimum of six bits for
//! 32 weights each), qh[32] (fifth bits), qs[128].
//!
//! `w[i] = d * sc[i / 32] * q[i] - dmin * m[i / 32]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q5K {
    d: [u8; 2],
    dmin: [u8; 2],
    scales: [u8; 12],
    qh: [u8; 32],
    qs: [u8; 128],
}
const _: () = assert!(size_of::<Q5K>() == 176);

pub static FORMAT: Format = Format {
    name: "Q5_K",
    stem: "q5_k",
    gguf_type: Some(13),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q5K>()),
    shader: include_str!("../../../shaders/decode/q5_k.wgsl"),
};

impl Block for Q5K {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 4 * 256), Plane::new("qh", 256), Plane::new("sc", 16 * 8), Plane::new("dm", 32)];

    fn decode(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (bits::half(self.d), bits::half(self.dmin));
        let sc = bits::six_bit_pairs(&self.scales);
        let codes = bits::split_pairs(&self.qs);
        for (c, (q, out)) in codes.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
            let (d, m) = (d * f32::from(sc[2 * c]), dmin * f32::from(sc[2 * c + 1]));
            for (j, out) in out.iter_mut().enumerate() {
                *out = d * f32::from(q[j] | (self.qh[j] >> c & 1) << 4) - m;
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d) && bits::finite(self.dmin)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_pair_nibbles(&self.qs));
        to.put(1, bits::pack_bit_columns(&self.qh));
        to.put(2, bits::six_bit_pairs(&self.scales));
        to.put(3, [self.d, self.dmin]);
    }

    fn unpack(from: &Unpacker) -> Self {
        let [d, dmin] = from.get(3);
        let scales = bits::packed_six_bit_pairs(&from.get(2));
        let qh = bits::unpack_bit_columns(&from.get(1));
        Self { d, dmin, scales, qh, qs: bits::unpack_pair_nibbles(&from.get(0)) }
    }
}
