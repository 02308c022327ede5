//! Q8_0: 32 weights in 34 bytes: d (f16), qs[32] (signed bytes).
//!
//! `w[i] = d * q[i]`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [i8; 32],
}
const _: () = assert!(size_of::<Block>() == 34);

pub static FORMAT: Format = Format {
    name: "Q8_0",
    stem: "q8_0",
    gguf_type: Some(8),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 32,
        bytes: size_of::<Block>(),
        decode,
        encode: Some(encode),
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 8 * 256), Plane::new("d", 16 * 8)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q8_0.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<32>().0) {
        let d = bits::half(b.d);
        *out = b.qs.map(|q| d * f32::from(q));
    }
}

/// `d` is the largest magnitude over 127; codes round half away from zero.
fn encode(weights: &[f32], row: &mut [u8]) {
    for (w, b) in weights.as_chunks::<32>().0.iter().zip(bytemuck::cast_slice_mut::<_, Block>(row)) {
        let d = w.iter().fold(0f32, |max, w| max.max(w.abs())) / 127.0;
        let id = bits::inverse(d);
        b.d = bits::to_half(d);
        b.qs = w.map(|w| bits::truncate((w * id).round()) as i8);
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (to, q) in planes[0][8 * i..8 * i + 8].iter_mut().zip(b.qs.as_chunks::<4>().0) {
            *to = u32::from_le_bytes(q.map(|q| q as u8));
        }
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs.copy_from_slice(bytemuck::cast_slice(&planes[0][8 * i..8 * i + 8]));
        b.d = bits::get_half(planes[1], i);
    }
}
