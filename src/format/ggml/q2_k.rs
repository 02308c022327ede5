//! Q2_K: 256 weights in 84 bytes: sc[16] (scale in the low nibble, minimum in the high one, for 16 weights each), qs[64], d,
//! dmin (f16).
//!
//! `w[i] = d * (sc[i / 16] & 15) * q[i] - dmin * (sc[i / 16] >> 4)`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    sc: [u8; 16],
    qs: [u8; 64],
    d: [u8; 2],
    dmin: [u8; 2],
}
const _: () = assert!(size_of::<Block>() == 84);

pub static FORMAT: Format = Format {
    name: "Q2_K",
    stem: "q2_k",
    gguf_type: Some(10),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d) && bits::finite(b.dmin)),
        planes: &[Plane::new("qs", 2 * 256), Plane::new("sc", 16 * 8), Plane::new("dm", 32)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q2_k.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let (d, dmin) = (bits::half(b.d), bits::half(b.dmin));
        let q = bits::split_quarters(&b.qs);
        for (i, (q, out)) in q.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0).enumerate() {
            let (d, m) = (d * f32::from(b.sc[i] & 15), dmin * f32::from(b.sc[i] >> 4));
            *out = q.map(|q| d * f32::from(q) - m);
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        bits::pack_quarters(&mut planes[0][16 * i..16 * i + 16], &b.qs);
        bits::put_words(&mut planes[1][4 * i..4 * i + 4], &b.sc);
        planes[2][i] = bits::pack_dm(b.d, b.dmin);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::unpack_quarters(&planes[0][16 * i..16 * i + 16]);
        b.sc = bits::bytes(&planes[1][4 * i..4 * i + 4]);
        (b.d, b.dmin) = bits::unpack_dm(planes[2][i]);
    }
}
