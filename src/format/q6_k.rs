//! Q6_K: 256 weights in 210 bytes: ql[128] (low four bits), qh[64] (upper two), sc[16] (signed bytes), d (f16).
//!
//! `w[i] = d * sc[i / 16] * (q[i] - 32)`

use super::{Format, Plane, bits, blocks};
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
    block_weights: 256,
    block_bytes: size_of::<Block>(),
    decode,
    encode: None,
    is_finite: |row| blocks::<Block>(row).iter().all(|b| bits::finite(b.d)),
    planes: &[
        Plane { name: "qs", bits_per_256: 4 * 256 },
        Plane { name: "qh", bits_per_256: 2 * 256 },
        Plane { name: "sc", bits_per_256: 16 * 8 },
        Plane { name: "d", bits_per_256: 16 },
    ],
    pack,
    unpack,
    shader: include_str!("../../shaders/decode/q6_k.wgsl"),
};

/// Where the bits of code `e` lie: byte and shift in `ql`, byte and shift in `qh`.
///
/// Each half of 128 weights has 64 bytes of `ql` and 32 of `qh`; its four quarters of 32 weights take the low nibbles of
/// bytes 0..32 and 32..64, then the high nibbles of the same, and bits 0, 2, 4, 6 of `qh`.
const fn place(e: usize) -> ((usize, u32), (usize, u32)) {
    let (half, quarter, i) = (e / 128, e % 128 / 32, e % 32);
    ((half * 64 + quarter % 2 * 32 + i, quarter as u32 / 2 * 4), (half * 32 + i, quarter as u32 * 2))
}

fn codes(b: &Block) -> [u8; 256] {
    std::array::from_fn(|e| {
        let ((l, l_shift), (h, h_shift)) = place(e);
        b.ql[l] >> l_shift & 15 | (b.qh[h] >> h_shift & 3) << 4
    })
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (b, out) in blocks::<Block>(row).iter().zip(out.as_chunks_mut::<256>().0) {
        let d = bits::half(b.d);
        let codes = codes(b);
        for (e, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(b.sc[e / 16]) * (f32::from(codes[e]) - 32.0);
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
        planes[2][4 * i..4 * i + 4].copy_from_slice(bytemuck::cast::<_, [u32; 4]>(b.sc).as_slice());
        bits::put_half(planes[3], i, b.d);
    }
}

fn unpack(planes: &[&[u32]], row: &mut [u8]) {
    for (i, b) in bytemuck::cast_slice_mut::<_, Block>(row).iter_mut().enumerate() {
        (b.ql, b.qh) = ([0; 128], [0; 64]);
        for c in 0..8 {
            let chunk = 8 * i + c;
            let low = bits::unpack_nibbles(&planes[0][4 * chunk..4 * chunk + 4]);
            let high = bits::unpack_pairs(&planes[1][2 * chunk..2 * chunk + 2]);
            for j in 0..32 {
                let ((l, l_shift), (h, h_shift)) = place(32 * c + j);
                b.ql[l] |= low[j] << l_shift;
                b.qh[h] |= high[j] << h_shift;
            }
        }
        b.sc.copy_from_slice(bytemuck::cast_slice(&planes[2][4 * i..4 * i + 4]));
        b.d = bits::get_half(planes[3], i);
    }
}
