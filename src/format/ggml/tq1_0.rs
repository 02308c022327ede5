//! TQ1_0: 256 weights in 54 bytes: qs[48] (five trits a byte), qh[4] (four trits a byte), d (f16).
//!
//! `w[i] = (trit[i] - 1) * d`; trit `n` of byte `b` is `((b * 3^n mod 256) * 3) >> 8`

use crate::format::block::{Block, Packer, Unpacker};
use crate::format::{Blocks, Codes, Coding, Format, Plane, bits};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Tq1_0 {
    qs: [[u8; 16]; 3],
    qh: [u8; 4],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Tq1_0>() == 54);

pub static FORMAT: Format = Format {
    name: "TQ1_0",
    stem: "tq1_0",
    gguf_type: Some(34),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks::of::<Tq1_0>()),
    shader: include_str!("../../../shaders/decode/tq1_0.wgsl"),
};

/// Trit `n` of a byte.
fn trit(byte: u8, n: u32) -> u8 {
    let q = byte.wrapping_mul(3u8.pow(n));
    ((u16::from(q) * 3) >> 8) as u8
}

/// The first 32 bytes hold weights 0..160, the next 16 weights 160..240, `qh` the last 16.
fn codes(b: &Tq1_0) -> [u8; 256] {
    let mut codes = [0; 256];
    trits(b.qs[..2].as_flattened(), &mut codes[..160]);
    trits(&b.qs[2], &mut codes[160..240]);
    trits(&b.qh, &mut codes[240..]);
    codes
}

/// The first trits of all bytes, then the second ones, and so on.
fn trits(bytes: &[u8], codes: &mut [u8]) {
    for (n, codes) in codes.chunks_mut(bytes.len()).enumerate() {
        codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = trit(*byte, n as u32));
    }
}

impl Block for Tq1_0 {
    type Weights = [f32; 256];

    // The bytes as they are: several bytes mean the same five trits, so nothing smaller than the
    // byte is lossless.
    const PLANES: &'static [Plane] =
        &[Plane::new("qs", 48 * 8), Plane::new("qh", 4 * 8), Plane::new("d", 16)];

    fn decode(&self, out: &mut [f32; 256]) {
        let d = bits::half(self.d);
        out.iter_mut().zip(codes(self)).for_each(|(out, q)| *out = (f32::from(q) - 1.0) * d);
    }

    fn is_finite(&self) -> bool {
        bits::finite(self.d)
    }

    fn pack(&self, to: &mut Packer) {
        to.put(0, self.qs);
        to.put(1, self.qh);
        to.put(2, self.d);
    }

    fn unpack(from: &Unpacker) -> Self {
        Self { qs: from.get(0), qh: from.get(1), d: from.get(2) }
    }
}
