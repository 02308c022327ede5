//! Q8_1: 32 weights in 36 bytes: d (f16), s (f16, `d * sum of q`), qs[32] (signed bytes).
//!
//! `w[i] = d * q[i]`; ggml quantizes activations into it, and `s` is for its dot products alone

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    s: [u8; 2],
    qs: [i8; 32],
}
const _: () = assert!(size_of::<Block>() == 36);

pub static FORMAT: Format = Format {
    name: "Q8_1",
    stem: "q8_1",
    gguf_type: Some(9),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 32,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 8 * 256), Plane::new("d", 16 * 8), Plane::new("s", 16 * 8)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q8_1.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<32>().0) {
        let d = bits::half(b.d);
        *out = b.qs.map(|q| d * f32::from(q));
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][8 * i..8 * i + 8].copy_from_slice(&bytemuck::cast::<_, [u32; 8]>(b.qs));
        bits::put_half(planes[1], i, b.d);
        bits::put_half(planes[2], i, b.s);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs.copy_from_slice(bytemuck::cast_slice(&planes[0][8 * i..8 * i + 8]));
        b.d = bits::get_half(planes[1], i);
        b.s = bits::get_half(planes[2], i);
    }
}
