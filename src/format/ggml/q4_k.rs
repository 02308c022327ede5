//! Q4_K: 256 weights in 144 bytes: d, dmin (f16), scales[12] (a scale and a minimum of six bits for 32 weights each), qs[128].
//!
//! `w[i] = d * sc[i / 32] * q[i] - dmin * m[i / 32]`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    dmin: [u8; 2],
    scales: [u8; 12],
    qs: [u8; 128],
}
const _: () = assert!(size_of::<Block>() == 144);

pub static FORMAT: Format = Format {
    name: "Q4_K",
    stem: "q4_k",
    gguf_type: Some(12),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d) && bits::finite(b.dmin)),
        planes: &[Plane::new("qs", 4 * 256), Plane::new("sc", 16 * 8), Plane::new("dm", 32)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q4_k.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let (d, dmin) = (bits::half(b.d), bits::half(b.dmin));
        let sc = bits::six_bit_pairs(&b.scales);
        let codes = bits::split_pairs(&b.qs);
        for (c, (q, out)) in codes.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
            let (d, m) = (d * f32::from(sc[2 * c]), dmin * f32::from(sc[2 * c + 1]));
            *out = q.map(|q| d * f32::from(q) - m);
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        bits::pack_pair_nibbles(&mut planes[0][32 * i..32 * i + 32], &b.qs);
        bits::put_words(&mut planes[1][4 * i..4 * i + 4], &bits::six_bit_pairs(&b.scales));
        planes[2][i] = bits::pack_dm(b.d, b.dmin);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::unpack_pair_nibbles(&planes[0][32 * i..32 * i + 32]);
        b.scales = bits::packed_six_bit_pairs(&bits::bytes(&planes[1][4 * i..4 * i + 4]));
        (b.d, b.dmin) = bits::unpack_dm(planes[2][i]);
    }
}
