//! Q4_1: 32 weights in 20 bytes: d, m (f16), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * q[i] + m`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    m: [u8; 2],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Block>() == 20);

pub static FORMAT: Format = Format {
    name: "Q4_1",
    stem: "q4_1",
    gguf_type: Some(3),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 32,
        bytes: size_of::<Block>(),
        decode,
        encode: Some(encode),
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d) && bits::finite(b.m)),
        planes: &[Plane::new("qs", 4 * 256), Plane::new("dm", 32 * 8)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q4_1.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<32>().0) {
        let d = bits::half(b.d);
        let m = bits::half(b.m);
        *out = bits::split_halves(&b.qs).map(|q| d * f32::from(q) + m);
    }
}

/// `d` spans smallest to largest weight in 15 steps from `m`; codes round half up.
fn encode(weights: &[f32], row: &mut [u8]) {
    for (w, b) in weights.as_chunks::<32>().0.iter().zip(bytemuck::cast_slice_mut::<_, Block>(row)) {
        let min = w.iter().fold(f32::MAX, |min, w| if *w < min { *w } else { min });
        let max = w.iter().fold(-f32::MAX, |max, w| if *w > max { *w } else { max });
        let d = (max - min) / 15.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate((w - min) * id + 0.5).min(15) as u8);
        b.d = bits::to_half(d);
        b.m = bits::to_half(min);
        b.qs = bits::join_halves(&codes);
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][4 * i..4 * i + 4].copy_from_slice(&bits::pack_halved_nibbles(&b.qs));
        planes[1][i] = bits::pack_dm(b.d, b.m);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::join_halves(&bits::unpack_nibbles(&planes[0][4 * i..4 * i + 4]));
        (b.d, b.m) = bits::unpack_dm(planes[1][i]);
    }
}
