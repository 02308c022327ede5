//! Q2_0: 64 weights in 18 bytes: d (f16), qs[16] (two bits each, in order).
//!
//! `w[i] = (q[i] - 1) * d`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<Block>() == 18);

pub static FORMAT: Format = Format {
    name: "Q2_0",
    stem: "q2_0",
    gguf_type: Some(42),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 64,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 2 * 256), Plane::new("d", 16 * 4)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q2_0.wgsl"),
};

/// Codes of 32 weights.
fn codes(qs: &[u8; 8]) -> [u8; 32] {
    std::array::from_fn(|e| qs[e / 4] >> (e % 4 * 2) & 3)
}

/// Inverse of [`codes`].
fn join(codes: &[u8; 32]) -> [u8; 8] {
    let codes = codes.as_chunks::<4>().0;
    std::array::from_fn(|j| (0..4).fold(0, |byte, e| byte | codes[j][e] << (2 * e)))
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<64>().0) {
        let d = bits::half(b.d);
        for (qs, out) in b.qs.as_chunks().0.iter().zip(out.as_chunks_mut::<32>().0) {
            *out = codes(qs).map(|q| (f32::from(q) - 1.0) * d);
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (qs, to) in b.qs.as_chunks().0.iter().zip(planes[0][4 * i..4 * i + 4].as_chunks_mut().0) {
            *to = bits::pack_pairs(&codes(qs));
        }
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for (qs, pairs) in
            b.qs.as_chunks_mut().0.iter_mut().zip(planes[0][4 * i..4 * i + 4].as_chunks::<2>().0)
        {
            *qs = join(&bits::unpack_pairs(pairs));
        }
        b.d = bits::get_half(planes[1], i);
    }
}
