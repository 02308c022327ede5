//! Q5_0: 32 weights in 22 bytes: d (f16), qh (u32, fifth bits), qs[16] (low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * (q[i] - 16)`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qh: [u8; 4],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Block>() == 22);

pub static FORMAT: Format = Format {
    name: "Q5_0",
    stem: "q5_0",
    gguf_type: Some(6),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 32,
        bytes: size_of::<Block>(),
        decode,
        encode: Some(encode),
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 4 * 256), Plane::new("qh", 256), Plane::new("d", 16 * 8)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q5_0.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<32>().0) {
        let d = bits::half(b.d);
        *out = codes(b).map(|q| d * (f32::from(q) - 16.0));
    }
}

fn codes(b: &Block) -> [u8; 32] {
    bits::add_fifth_bits(&bits::split_halves(&b.qs), u32::from_le_bytes(b.qh))
}

/// `d` is the weight of largest magnitude, with its sign, over -16; codes round half up and stop at 31.
fn encode(weights: &[f32], row: &mut [u8]) {
    for (w, b) in weights.as_chunks::<32>().0.iter().zip(bytemuck::cast_slice_mut::<_, Block>(row)) {
        let max = w.iter().fold(0f32, |max, w| if w.abs() > max.abs() { *w } else { max });
        let d = max / -16.0;
        let id = bits::inverse(d);
        let codes = w.map(|w| bits::truncate(w * id + 16.5).min(31) as u8);
        b.d = bits::to_half(d);
        b.qs = bits::join_halves(&codes);
        b.qh = bits::fifth_bits(&codes).to_le_bytes();
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][4 * i..4 * i + 4].copy_from_slice(&bits::pack_halved_nibbles(&b.qs));
        planes[1][i] = bits::pack_bits(u32::from_le_bytes(b.qh));
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::join_halves(&bits::unpack_nibbles(&planes[0][4 * i..4 * i + 4]));
        b.qh = bits::unpack_bits(planes[1][i]).to_le_bytes();
        b.d = bits::get_half(planes[2], i);
    }
}
