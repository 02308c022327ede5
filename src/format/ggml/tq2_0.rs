//! TQ2_0: 256 weights in 66 bytes: qs[64] (two bits each), d (f16).
//!
//! `w[i] = (q[i] - 1) * d`

use crate::format::{Blocks, Codebook, Codes, Coding, Format, Plane, bits, blocks};
use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block {
    qs: [u8; 64],
    d: [u8; 2],
}
const _: () = assert!(size_of::<Block>() == 66);

pub static FORMAT: Format = Format {
    name: "TQ2_0",
    stem: "tq2_0",
    gguf_type: Some(35),
    codes: Codes::Integers,
    coding: Coding::Blocks(Blocks {
        weights: 256,
        bytes: size_of::<Block>(),
        decode,
        encode: None,
        is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
        planes: &[Plane::new("qs", 2 * 256), Plane::new("d", 16)],
        pack,
        unpack,
        book: Codebook::None,
    }),
    shader: include_str!("../../../shaders/decode/tq2_0.wgsl"),
};

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        *out = bits::split_quarters(&b.qs).map(|q| (f32::from(q) - 1.0) * d);
    }
}

fn pack(row: &[u8], planes: &mut [&mut [u32]]) {
    for (i, b) in blocks::<Block>(row).iter().enumerate() {
        bits::pack_quarters(&mut planes[0][16 * i..16 * i + 16], &b.qs);
        bits::put_half(planes[1], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        b.qs = bits::unpack_quarters(&planes[0][16 * i..16 * i + 16]);
        b.d = bits::get_half(planes[1], i);
    }
}
