//! Q6_K: 256 weights in 210 bytes: ql[128] (low four bits), qh[64] (upper two), sc[16] (signed bytes), d (f16).
//!
//! `w[i] = d * sc[i / 16] * (q[i] - 32)`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    ql: [u8; 128],
    qh: [u8; 64],
    sc: [i8; 16],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Block>() == 210);

pub static FORMAT: Format = Format {
    name: "Q6_K",
    stem: "q6_k",
    gguf_type: Some(14),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[
            Plane::new("qs", 4 * 256),
            Plane::new("qh", 2 * 256),
            Plane::new("sc", 16 * 8),
            Plane::new("d", 16),
        ],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q6_k.wgsl"),
};

/// Each half of 128 weights has 64 bytes of `ql` and 32 of `qh`. Its four quarters of 32 weights take the low nibbles of
/// bytes 0..32 and 32..64 of `ql`, then their high nibbles; and bits 0, 2, 4, 6 of `qh`.
fn codes(b: &Block) -> [u8; 256] {
    let mut codes = [0; 256];
    for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (ql, qh) = (&b.ql.as_chunks::<64>().0[half], &b.qh.as_chunks::<32>().0[half]);
        for i in 0..32 {
            codes[i] = ql[i] & 15 | (qh[i] & 3) << 4;
            codes[32 + i] = ql[32 + i] & 15 | (qh[i] >> 2 & 3) << 4;
            codes[64 + i] = ql[i] >> 4 | (qh[i] >> 4 & 3) << 4;
            codes[96 + i] = ql[32 + i] >> 4 | (qh[i] >> 6) << 4;
        }
    }
    codes
}

/// Inverse of [`codes`].
fn put_codes(b: &mut Block, codes: &[u8; 256]) {
    for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
        let (ql, qh) = (&mut b.ql.as_chunks_mut::<64>().0[half], &mut b.qh.as_chunks_mut::<32>().0[half]);
        for i in 0..32 {
            let [a, b, c, d] = [codes[i], codes[32 + i], codes[64 + i], codes[96 + i]];
            ql[i] = a & 15 | c << 4;
            ql[32 + i] = b & 15 | d << 4;
            qh[i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        let codes = codes(b);
        for ((sc, q), out) in b.sc.iter().zip(codes.as_chunks::<16>().0).zip(out.as_chunks_mut::<16>().0) {
            let d = d * f32::from(*sc);
            *out = q.map(|q| d * (f32::from(q) - 32.0));
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (c, codes) in codes(b).as_chunks::<32>().0.iter().enumerate() {
            let chunk = 8 * i + c;
            planes[0][4 * chunk..4 * chunk + 4].copy_from_slice(&bits::pack_nibbles(codes));
            planes[1][2 * chunk..2 * chunk + 2].copy_from_slice(&bits::pack_pairs(&codes.map(|q| q >> 4)));
        }
        planes[2][4 * i..4 * i + 4].copy_from_slice(&bytemuck::cast::<_, [u32; 4]>(b.sc));
        bits::put_half(planes[3], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        let mut codes = [0; 256];
        for (c, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let chunk = 8 * i + c;
            let low = bits::unpack_nibbles(&planes[0][4 * chunk..4 * chunk + 4]);
            let high = bits::unpack_pairs(&planes[1][2 * chunk..2 * chunk + 2]);
            *codes = std::array::from_fn(|e| low[e] | high[e] << 4);
        }
        put_codes(b, &codes);
        b.sc.copy_from_slice(bytemuck::cast_slice(&planes[2][4 * i..4 * i + 4]));
        b.d = bits::get_half(planes[3], i);
    }
}
