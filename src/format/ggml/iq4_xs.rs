//! IQ4_XS: 256 weights in 136 bytes: d (f16), scales_h (u16, upper two bits of eight scales),
//! scales_l[4] (lower four bits), qs[128] (blocks of 32: low nibbles = weights 0..15, high =
//! 16..31).
//!
//! `w[i] = d * (sc[i / 32] - 32) * book[q[i]]`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::ggml::iq4_nl::VALUES;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Iq4Xs {
    d: [u8; 2],
    scales_h: [u8; 2],
    scales_l: [u8; 4],
    qs: [[u8; 16]; 8],
}
const _: () = assert!(size_of::<Iq4Xs>() == 136);

pub static FORMAT: Format = Format {
    name: "IQ4_XS",
    stem: "iq4_xs",
    gguf_type: Some(23),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Iq4Xs>()),
    shader: include_str!("../../../shaders/decode/iq4_xs.wgsl"),
};

/// The eight scales.
fn scales(b: &Iq4Xs) -> [u8; 8] {
    let high = u16::from_le_bytes(b.scales_h);
    std::array::from_fn(|c| b.scales_l[c / 2] >> (c % 2 * 4) & 15 | ((high >> (2 * c)) as u8 & 3) << 4)
}

impl Block for Iq4Xs {
    type Weights = [f32; 256];

    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 4 * 256), Plane::new("sc", 8 * 8), Plane::new("d", 16)];

    const CODEBOOK: Codebook = Codebook::Sixteen(VALUES);

    fn decode(&self, out: &mut [f32; 256]) {
        let (d, sc) = (bits::half(self.d), scales(self));
        for (c, (qs, out)) in self.qs.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
            let d = d * (f32::from(sc[c]) - 32.0);
            *out = bits::split_halves(qs).map(|q| d * VALUES[usize::from(q)]);
        }
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs.map(|qs| bits::pack_halved_nibbles(&qs)));
        to.put(1, scales(self));
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        let (qs, sc): ([[u32; 4]; 8], [u8; 8]) = (from.get(0), from.get(1));
        let high = (0..8).fold(0, |high, c| high | u16::from(sc[c] >> 4) << (2 * c));
        Self {
            d: from.get(2),
            scales_h: high.to_le_bytes(),
            scales_l: std::array::from_fn(|j| sc[2 * j] & 15 | (sc[2 * j + 1] & 15) << 4),
            qs: qs.map(|words| bits::join_halves(&bits::unpack_nibbles(&words))),
        }
    }
}
