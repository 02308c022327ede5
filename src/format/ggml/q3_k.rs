//! Q3_K: 256 weights in 110 bytes: hmask[32] (third bits), qs[64], scales[12] (six bits each for 16 weights), d (f16).
//!
//! `w[i] = d * (sc[i / 16] - 32) * (q[i] - 4)`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    hmask: [u8; 32],
    qs: [u8; 64],
    scales: [u8; 12],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Block>() == 110);

pub static FORMAT: Format = Format {
    name: "Q3_K",
    stem: "q3_k",
    gguf_type: Some(11),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[
            Plane::new("qs", 2 * 256),
            Plane::new("qh", 256),
            Plane::new("sc", 16 * 8),
            Plane::new("d", 16),
        ],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/q3_k.wgsl"),
};

/// The sixteen scales: low four bits in bytes 0..8, nibble by nibble, upper two in bytes 8..12.
fn scales(packed: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|i| packed[i % 8] >> (i / 8 * 4) & 15 | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4)
}

/// Inverse of [`scales`].
fn packed_scales(sc: &[u8; 16]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..8 => sc[i] & 15 | (sc[i + 8] & 15) << 4,
        _ => (0..4).fold(0, |byte, j| byte | (sc[i - 8 + 4 * j] >> 4) << (2 * j)),
    })
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let (d, sc) = (bits::half(b.d), scales(&b.scales));
        let low = bits::split_quarters(&b.qs);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = d * (f32::from(sc[i]) - 32.0);
            for (j, out) in out.iter_mut().enumerate() {
                let q = low[16 * i + j] | (b.hmask[i % 2 * 16 + j] >> (i / 2) & 1) << 2;
                *out = d * (f32::from(q) - 4.0);
            }
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        bits::pack_quarters(&mut planes[0][16 * i..16 * i + 16], &b.qs);
        planes[1][8 * i..8 * i + 8].copy_from_slice(&bits::pack_bit_columns(&b.hmask));
        bits::put_words(&mut planes[2][4 * i..4 * i + 4], &scales(&b.scales));
        bits::put_half(planes[3], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::unpack_quarters(&planes[0][16 * i..16 * i + 16]);
        b.hmask = bits::unpack_bit_columns(&planes[1][8 * i..8 * i + 8]);
        b.scales = packed_scales(&bits::bytes(&planes[2][4 * i..4 * i + 4]));
        b.d = bits::get_half(planes[3], i);
    }
}
