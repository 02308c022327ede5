//! Q8_K: 256 weights in 292 bytes: d (f32), qs[256] (signed bytes), bsums[16] (i16, sums of 16 q).
//!
//! `w[i] = d * q[i]`; ggml quantizes activations into it, and `bsums` are for its dot products alone

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 4],
    qs: [i8; 256],
    bsums: [u8; 32],
}
const _: () = assert!(size_of::<Block>() == 292);

pub static FORMAT: Format = Format {
    name: "Q8_K",
    stem: "q8_k",
    gguf_type: Some(15),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(is_finite),
        planes: &[Plane::new("qs", 8 * 256), Plane::new("d", 32), Plane::new("bsums", 16 * 16)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q8_k.wgsl"),
};

/// A finite scale of 32 bits times a code may be infinite, so it is the products that count.
fn is_finite(b: &Block) -> bool {
    let d = f32::from_le_bytes(b.d);
    b.qs.iter().all(|q| (d * f32::from(*q)).is_finite())
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = f32::from_le_bytes(b.d);
        *out = b.qs.map(|q| d * f32::from(q));
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][64 * i..64 * i + 64].copy_from_slice(&bytemuck::cast::<_, [u32; 64]>(b.qs));
        planes[1][i] = u32::from_le_bytes(b.d);
        planes[2][8 * i..8 * i + 8].copy_from_slice(&bytemuck::cast::<_, [u32; 8]>(b.bsums));
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs.copy_from_slice(bytemuck::cast_slice(&planes[0][64 * i..64 * i + 64]));
        b.d = planes[1][i].to_le_bytes();
        b.bsums.copy_from_slice(bytemuck::cast_slice(&planes[2][8 * i..8 * i + 8]));
    }
}
