//! NVFP4: 64 weights in 36 bytes: d[4] (unsigned E4M3, one for 16 weights), qs[32] (E2M1; eight bytes for 16 weights: low
//! nibbles = weights 0..7, high = 8..15).
//!
//! `w[i] = d[i / 16] / 2 * book[q[i]]`

use crate::format::microscale::mxfp4::VALUES;
use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    d: [u8; 4],
    qs: [[u8; 8]; 4],
}
const _: () = assert!(size_of::<Block>() == 36);

pub static FORMAT: Format = Format {
    name: "NVFP4",
    stem: "nvfp4",
    gguf_type: Some(40),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 64,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |_| true,
        planes: &[Plane::new("qs", 4 * 256), Plane::new("d", 16 * 8)],
        pack,
        unpack,
        book: Codebook::Sixteen(VALUES),
    }),
    shader: include_str!("../../../shaders/decode/nvfp4.wgsl"),
};

/// Half of an unsigned E4M3 number. Its bits are those of an f16 but for the exponent's bias; the eighth bit does not
/// count, and 0x7f, the NaN, is 0.
fn scale(d: u8) -> f32 {
    match d {
        0x7f => 0.0,
        _ => half::f16::from_bits(u16::from(d & 0x7f) << 7).to_f32() * 128.0,
    }
}

/// The codes of 16 weights.
fn codes(qs: &[u8; 8]) -> [u8; 16] {
    std::array::from_fn(|e| if e < 8 { qs[e] & 15 } else { qs[e - 8] >> 4 })
}

/// The codes of half a block.
fn codes32(qs: &[[u8; 8]]) -> [u8; 32] {
    std::array::from_fn(|e| codes(&qs[e / 16])[e % 16])
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<64>().0) {
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = scale(b.d[i]);
            *out = codes(&b.qs[i]).map(|q| d * VALUES[usize::from(q)]);
        }
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        for (half, to) in planes[0][8 * i..8 * i + 8].chunks_exact_mut(4).enumerate() {
            to.copy_from_slice(&bits::pack_nibbles(&codes32(&b.qs[2 * half..])));
        }
        planes[1][i] = u32::from_le_bytes(b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        for (s, qs) in b.qs.iter_mut().enumerate() {
            let codes = bits::unpack_nibbles(&planes[0][8 * i + s / 2 * 4..][..4]);
            *qs = std::array::from_fn(|j| codes[s % 2 * 16 + j] | codes[s % 2 * 16 + 8 + j] << 4);
        }
        b.d = planes[1][i].to_le_bytes();
    }
}
