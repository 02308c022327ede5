//! Q3_K: 256 weights in 110 bytes: hmask[32] (third bits), qs[64], scales[12] (six bits each for 16
//! weights), d (f16).
//!
//! `w[i] = d * (sc[i / 16] - 32) * (q[i] - 4)`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Q3K {
    hmask: [u8; 32],
    qs: [u8; 64],
    scales: [u8; 12],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Q3K>() == 110);

pub static FORMAT: Format = Format {
    name: "Q3_K",
    stem: "q3_k",
    gguf_type: Some(11),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Q3K>()),
    shader: include_str!("../../../shaders/decode/q3_k.wgsl"),
};

/// The sixteen scales: low four bits in bytes 0..8, nibble by nibble, upper two in bytes 8..12.
fn scales(packed: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|i| packed[i % 8] >> (i / 8 * 4) & 15 | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4)
}

/// Inverse of [`scales`].
fn packed_scales(sc: &[u8; 16]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..8 => sc[i] & 15 | (sc[i + 8] & 15) << 4,
        _ => (0..4).fold(0, |byte, j| byte | (sc[i - 8 + 4 * j] >> 4) << (2 * j)),
    })
}

impl Block for Q3K {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 2 * 256), Plane::new("qh", 256), Plane::new("sc", 16 * 8), Plane::new("d", 16)];

    fn decode(&self, out: &mut [f32; 256]) {
        let (d, sc) = (bits::half(self.d), scales(&self.scales));
        let low = bits::split_quarters(&self.qs);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = d * (f32::from(sc[i]) - 32.0);
            for (j, out) in out.iter_mut().enumerate() {
                let q = low[16 * i + j] | (self.hmask[i % 2 * 16 + j] >> (i / 2) & 1) << 2;
                *out = d * (f32::from(q) - 4.0);
            }
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, bits::pack_quarters(&self.qs));
        to.put(1, bits::pack_bit_columns(&self.hmask));
        to.put(2, scales(&self.scales));
        to.put(3, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self {
            hmask: bits::unpack_bit_columns(&from.get(1)),
            qs: bits::unpack_quarters(&from.get(0)),
            scales: packed_scales(&from.get(2)),
            d: from.get(3),
        }
    }
}
