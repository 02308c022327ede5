//! Q1_0: 128 weights in 18 bytes: d (f16), qs[16] (one bit each, in order).
//!
//! `w[i] = q[i] == 1 ? d : -d`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [[u8; 4]; 4],
}
const _: () = assert!(size_of::<Block>() == 18);

pub static FORMAT: Format = Format {
    name: "Q1_0",
    stem: "q1_0",
    gguf_type: Some(41),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 128,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 256), Plane::new("d", 16 * 2)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q1_0.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<128>().0) {
        let d = bits::half(b.d);
        for (qs, out) in b.qs.iter().zip(out.as_chunks_mut::<32>().0) {
            let qs = u32::from_le_bytes(*qs);
            *out = std::array::from_fn(|e| if qs >> e & 1 == 1 { d } else { -d });
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (to, qs) in planes[0][4 * i..4 * i + 4].iter_mut().zip(b.qs) {
            *to = bits::pack_bits(u32::from_le_bytes(qs));
        }
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for (qs, from) in b.qs.iter_mut().zip(&planes[0][4 * i..4 * i + 4]) {
            *qs = bits::unpack_bits(*from).to_le_bytes();
        }
        b.d = bits::get_half(planes[1], i);
    }
}
