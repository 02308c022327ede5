//! TQ1_0: 256 weights in 54 bytes: qs[48] (five trits a byte), qh[4] (four trits a byte), d (f16).
//!
//! `w[i] = (trit[i] - 1) * d`; trit `n` of byte `b` is `((b * 3^n mod 256) * 3) >> 8`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    qs: [[u8; 16]; 3],
    qh: [u8; 4],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Block>() == 54);

pub static FORMAT: Format = Format {
    name: "TQ1_0",
    stem: "tq1_0",
    gguf_type: Some(34),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        // The bytes as they are: several bytes mean the same five trits, so nothing smaller than the byte is lossless.
        planes: &[Plane::new("qs", 48 * 8), Plane::new("qh", 4 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/tq1_0.wgsl"),
};

/// Trit `n` of a byte.
fn trit(byte: u8, n: u32) -> u8 {
    let q = byte.wrapping_mul(3u8.pow(n));
    ((u16::from(q) * 3) >> 8) as u8
}

/// The first 32 bytes hold weights 0..160, the next 16 weights 160..240, `qh` the last 16.
fn codes(b: &Block) -> [u8; 256] {
    let mut codes = [0; 256];
    trits(b.qs[..2].as_flattened(), &mut codes[..160]);
    trits(&b.qs[2], &mut codes[160..240]);
    trits(&b.qh, &mut codes[240..]);
    codes
}

/// The first trits of all bytes, then the second ones, and so on.
fn trits(bytes: &[u8], codes: &mut [u8]) {
    for (n, codes) in codes.chunks_mut(bytes.len()).enumerate() {
        codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = trit(*byte, n as u32));
    }
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        out.iter_mut().zip(codes(b)).for_each(|(out, q)| *out = (f32::from(q) - 1.0) * d);
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        planes[0][12 * i..12 * i + 12].copy_from_slice(&bytemuck::cast::<_, [u32; 12]>(b.qs));
        planes[1][i] = u32::from_le_bytes(b.qh);
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs.as_flattened_mut().copy_from_slice(bytemuck::cast_slice(&planes[0][12 * i..12 * i + 12]));
        b.qh = planes[1][i].to_le_bytes();
        b.d = bits::get_half(planes[2], i);
    }
}
