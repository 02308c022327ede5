//! IQ4_NL: 32 weights in 18 bytes: d (f16), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * book[q[i]]`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [u8; 16],
}
/// The values of the sixteen codes, IQ4_XS's too.
pub const VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

const _: () = assert!(size_of::<Block>() == 18);

pub static FORMAT: Format = Format {
    name: "IQ4_NL",
    stem: "iq4_nl",
    gguf_type: Some(20),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 32,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)],
        pack,
        unpack,
        book: Codebook::Sixteen(VALUES),
    }),
    shader: include_str!("../../../shaders/decode/iq4_nl.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<32>().0) {
        let d = bits::half(b.d);
        *out = bits::split_halves(&b.qs).map(|q| d * VALUES[usize::from(q)]);
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][4 * i..4 * i + 4].copy_from_slice(&bits::pack_halved_nibbles(&b.qs));
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::join_halves(&bits::unpack_nibbles(&planes[0][4 * i..4 * i + 4]));
        b.d = bits::get_half(planes[1], i);
    }
}
