//! Q6_K: 256 weights in 210 bytes: ql[128] (low four bits), qh[64] (upper two), sc[16] (signed
//! bytes), d (f16).
//!
//! `w[i] = d * sc[i / 16] * (q[i] - 32)`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q6K {
    ql: [u8; 128],
    qh: [u8; 64],
    sc: [i8; 16],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Q6K>() == 210);

pub static FORMAT: Format = Format {
    name: "Q6_K",
    stem: "q6_k",
    gguf_type: Some(14),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q6K>()),
    shader: include_str!("../../../shaders/decode/q6_k.wgsl"),
};

/// Each half of 128 weights has 64 bytes of `ql` and 32 of `qh`. Its four quarters of 32 weights
/// take the low nibbles of bytes 0..32 and 32..64 of `ql`, then their high nibbles; and bits 0, 2,
/// 4, 6 of `qh`.
fn codes(b: &Q6K) -> [u8; 256] {
    let mut codes = [0; 256];
    for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (ql, qh) = (&b.ql.as_chunks::<64>().0[half], &b.qh.as_chunks::<32>().0[half]);
        for i in 0..32 {
            codes[i] = ql[i] & 15 | (qh[i] & 3) << 4;
            codes[32 + i] = ql[32 + i] & 15 | (qh[i] >> 2 & 3) << 4;
            codes[64 + i] = ql[i] >> 4 | (qh[i] >> 4 & 3) << 4;
            codes[96 + i] = ql[32 + i] >> 4 | (qh[i] >> 6) << 4;
        }
    }
    codes
}

/// The chunks of a half lie in `ql` as low, low, high, high nibbles of its two runs of bytes.
/// [`bits::pack_pair_nibbles`] gives low, high, low, high: the two in the middle change places. Its
/// own inverse.
fn swap([a, b, c, d, e, f, g, h]: [[u32; 4]; 8]) -> [[u32; 4]; 8] {
    [a, c, b, d, e, g, f, h]
}

impl Block for Q6K {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] = &[
        Plane::new("qs", 4 * 256),
        Plane::new("qh", 2 * 256),
        Plane::new("sc", 16 * 8),
        Plane::new("d", 16),
    ];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        let codes = codes(self);
        for ((sc, q), out) in self.sc.iter().zip(codes.as_chunks::<16>().0).zip(out.as_chunks_mut::<16>().0) {
            let d = d * f32::from(*sc);
            *out = q.map(|q| d * (f32::from(q) - 32.0));
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, swap(bytemuck::cast(bits::pack_pair_nibbles(&self.ql))));
        to.put(1, bits::pack_quarters(&self.qh));
        to.put(2, self.sc);
        to.put(3, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let ql = bits::unpack_pair_nibbles(&bytemuck::cast(swap(from.get(0))));
        Self { ql, qh: bits::unpack_quarters(&from.get(1)), sc: from.get(2), d: from.get(3) }
    }
}
