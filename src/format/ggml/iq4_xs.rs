//! IQ4_XS: 256 weights in 136 bytes: d (f16), scales_h (u16, upper two bits of eight scales), scales_l[4] (lower four bits),
//! qs[128] (blocks of 32: low nibbles = weights 0..15, high = 16..31).
//!
//! `w[i] = d * (sc[i / 32] - 32) * book[q[i]]`

use crate::format::ggml::iq4_nl::VALUES;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 2],
    scales_h: [u8; 2],
    scales_l: [u8; 4],
    qs: [[u8; 16]; 8],
}
const _: () = assert!(size_of::<Block>() == 136);

pub static FORMAT: Format = Format {
    name: "IQ4_XS",
    stem: "iq4_xs",
    gguf_type: Some(23),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 4 * 256), Plane::new("sc", 8 * 8), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::Sixteen(VALUES),
    }),
    shader: include_str!("../../../shaders/decode/iq4_xs.wgsl"),
};

/// The eight scales.
fn scales(b: &Block) -> [u8; 8] {
    let high = u16::from_le_bytes(b.scales_h);
    std::array::from_fn(|c| b.scales_l[c / 2] >> (c % 2 * 4) & 15 | ((high >> (2 * c)) as u8 & 3) << 4)
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let (d, sc) = (bits::half(b.d), scales(b));
        for (c, (qs, out)) in b.qs.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
            let d = d * (f32::from(sc[c]) - 32.0);
            *out = bits::split_halves(qs).map(|q| d * VALUES[usize::from(q)]);
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (to, qs) in planes[0][32 * i..32 * i + 32].chunks_exact_mut(4).zip(&b.qs) {
            to.copy_from_slice(&bits::pack_halved_nibbles(qs));
        }
        bits::put_words(&mut planes[1][2 * i..2 * i + 2], &scales(b));
        bits::put_half(planes[2], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for (qs, words) in b.qs.iter_mut().zip(planes[0][32 * i..32 * i + 32].chunks_exact(4)) {
            *qs = bits::join_halves(&bits::unpack_nibbles(words));
        }
        let sc: [u8; 8] = bits::bytes(&planes[1][2 * i..2 * i + 2]);
        b.scales_l = std::array::from_fn(|j| sc[2 * j] & 15 | (sc[2 * j + 1] & 15) << 4);
        let high = (0..8).fold(0, |high, c| high | u16::from(sc[c] >> 4) << (2 * c));
        b.scales_h = high.to_le_bytes();
        b.d = bits::get_half(planes[2], i);
    }
}
