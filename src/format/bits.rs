//! Small codes and half-precision scales, as several formats store and repack them.
//!
//! A *quad* is a word whose bytes are the codes of four consecutive weights.

/// Nibbles as GGUF's 32-blocks store them: byte `j` holds code `j` (low) and code `16 + j` (high).
pub fn split_halves(qs: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (j, q) in qs.iter().enumerate() {
        codes[j] = q & 15;
        codes[j + 16] = q >> 4;
    }
    codes
}

/// Inverse of [`split_halves`]; higher bits of the codes are ignored.
pub fn join_halves(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// Codes of five bits from [`split_halves`] nibbles and the fifth bits, bit `e` for code `e`.
pub fn add_fifth_bits(low: &[u8; 32], qh: u32) -> [u8; 32] {
    let q = quads(low);
    from_quads(std::array::from_fn(|i| q[i] | spread(qh >> (4 * i)) << 4))
}

/// The fifth bits of 32 codes: bit `e` belongs to code `e`.
pub fn fifth_bits(codes: &[u8; 32]) -> u32 {
    codes.iter().enumerate().fold(0, |qh, (e, code)| qh | u32::from(code >> 4 & 1) << e)
}

/// 32 four-bit codes as four words: byte `j` of word `i` holds code `8 i + j` in its low nibble and
/// code `8 i + 4 + j` in its high nibble. Higher bits of the codes are ignored.
pub fn pack_nibbles(codes: &[u8; 32]) -> [u32; 4] {
    let q = quads(codes).map(|q| q & 0x0f0f_0f0f);
    std::array::from_fn(|i| q[2 * i] | q[2 * i + 1] << 4)
}

/// [`pack_nibbles`] of [`split_halves`], a word at a time: uploads wait for it.
pub fn pack_halved_nibbles(qs: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d] = words(qs);
    [pack_low(a, b), pack_low(c, d), pack_high(a, b), pack_high(c, d)]
}

/// [`pack_nibbles`] of bytes that hold two codes each, the first in the low nibble; what is missing
/// of the last word is 0.
pub fn put_nibble_pairs(words: &mut [u32], bytes: &[u8]) {
    let word = |[a, b, c, d]: [u8; 4]| {
        let even = |x: u8, y: u8| x & 15 | y << 4;
        let odd = |x: u8, y: u8| x >> 4 | y & 0xf0;
        u32::from_le_bytes([even(a, c), odd(a, c), even(b, d), odd(b, d)])
    };
    let (full, rest) = bytes.as_chunks();
    words.iter_mut().zip(full).for_each(|(to, bytes)| *to = word(*bytes));
    if !rest.is_empty() {
        words[full.len()] = word(std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)));
    }
}

/// The low nibbles of two quads of bytes as a word of [`pack_nibbles`].
fn pack_low(a: u32, b: u32) -> u32 {
    a & 0x0f0f_0f0f | (b & 0x0f0f_0f0f) << 4
}

/// The high nibbles of two quads of bytes as a word of [`pack_nibbles`].
fn pack_high(a: u32, b: u32) -> u32 {
    a >> 4 & 0x0f0f_0f0f | b & 0xf0f0_f0f0
}

/// Inverse of [`pack_nibbles`].
pub fn unpack_nibbles(words: &[u32; 4]) -> [u8; 32] {
    from_quads(std::array::from_fn(|i| words[i / 2] >> (i % 2 * 4) & 0x0f0f_0f0f))
}

/// 32 two-bit codes as two words: bits `2 i`, `2 i + 1` of byte `j` of a word hold code `4 i + j`
/// of its 16. Higher bits of the codes are ignored.
pub fn pack_pairs(codes: &[u8; 32]) -> [u32; 2] {
    let q = quads(codes).map(|q| q & 0x0303_0303);
    [0, 4].map(|i| q[i] | q[i + 1] << 2 | q[i + 2] << 4 | q[i + 3] << 6)
}

/// Inverse of [`pack_pairs`].
pub fn unpack_pairs(words: &[u32; 2]) -> [u8; 32] {
    from_quads(std::array::from_fn(|i| words[i / 4] >> (i % 4 * 2) & 0x0303_0303))
}

/// 32 bits as one word: bit `e` goes to bit `e / 4` of byte `e % 4`.
pub fn pack_bits(bits: u32) -> u32 {
    (0..8).fold(0, |word, i| word | spread(bits >> (4 * i)) << i)
}

/// Inverse of [`pack_bits`].
pub fn unpack_bits(word: u32) -> u32 {
    (0..8).fold(0, |bits, i| bits | gather(word >> i) << (4 * i))
}

/// The low four bits of `bits`, one a byte.
pub fn spread(bits: u32) -> u32 {
    ((bits & 15) * 0x0020_4081) & 0x0101_0101
}

/// Inverse of [`spread`], from the lowest bit of each byte.
pub fn gather(word: u32) -> u32 {
    (word & 0x0101_0101).wrapping_mul(0x0102_0408) >> 24
}

fn quads(codes: &[u8; 32]) -> [u32; 8] {
    words(codes)
}

/// The first `W` words of some bytes, little end first.
fn words<const W: usize>(bytes: &[u8]) -> [u32; W] {
    std::array::from_fn(|i| u32::from_le_bytes(bytes.as_chunks().0[i]))
}

fn from_quads(quads: [u32; 8]) -> [u8; 32] {
    std::array::from_fn(|e| quads[e / 4].to_le_bytes()[e % 4])
}

/// f32 of an f16 as stored.
pub fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// An f16 as stored, rounded to nearest even; beyond 65520 it is infinite.
pub fn to_half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

/// True if the f16 is neither NaN nor infinite.
pub fn finite(bytes: [u8; 2]) -> bool {
    half::f16::from_le_bytes(bytes).is_finite()
}

/// `1 / d`, or zero for a block of zeros. Infinite for a subnormal `d`.
pub fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The integer part of a scaled weight. NaN and what no i32 holds (products with an infinite
/// [`inverse`]) give zero, which is what ggml's C casts to 8 bits give on x86.
pub fn truncate(value: f32) -> i32 {
    if value.abs() < 2_147_483_648.0 { value as i32 } else { 0 }
}

/// Two-bit codes as the K-quants store 256: each half of 128 weights has 32 bytes, byte `j` holding
/// codes `j`, `32 + j`, `64 + j` and `96 + j` from its low bits up.
pub fn split_quarters(qs: &[u8; 64]) -> [u8; 256] {
    std::array::from_fn(|e| qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3)
}

/// Inverse of [`split_quarters`].
pub fn join_quarters(codes: &[u8; 256]) -> [u8; 64] {
    std::array::from_fn(|j| (0..4).fold(0, |byte, q| byte | codes[j / 32 * 128 + q * 32 + j % 32] << (2 * q)))
}

/// The bytes of [`split_quarters`] as sixteen words of [`pack_pairs`].
pub fn pack_quarters(qs: &[u8; 64]) -> [u32; 16] {
    let q: [u32; 16] = words(qs);
    std::array::from_fn(|word| {
        let (half, c, first) = (word / 8 * 8, word % 8 / 2, word % 2 * 4);
        let two = |i: usize| q[half + first + i] >> (2 * c) & 0x0303_0303;
        two(0) | two(1) << 2 | two(2) << 4 | two(3) << 6
    })
}

/// Inverse of [`pack_quarters`].
pub fn unpack_quarters(words: &[u32; 16]) -> [u8; 64] {
    let pairs: [[u32; 2]; 8] = bytemuck::cast(*words);
    join_quarters(&bytemuck::cast(pairs.map(|words| unpack_pairs(&words))))
}

/// Four-bit codes as the K-quants store 256: each quarter of 64 weights has 32 bytes, byte `j`
/// holding codes `j` (low) and `32 + j` (high).
pub fn split_pairs(qs: &[u8; 128]) -> [u8; 256] {
    std::array::from_fn(|e| qs[e / 64 * 32 + e % 32] >> (e % 64 / 32 * 4) & 15)
}

/// Inverse of [`split_pairs`].
pub fn join_pairs(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|j| codes[j / 32 * 64 + j % 32] | codes[j / 32 * 64 + 32 + j % 32] << 4)
}

/// The bytes of [`split_pairs`] as 32 words of [`pack_nibbles`].
pub fn pack_pair_nibbles(qs: &[u8; 128]) -> [u32; 32] {
    let mut packed = [[0; 8]; 4];
    for (to, qs) in packed.iter_mut().zip(qs.as_chunks::<32>().0) {
        let q: [u32; 8] = words(qs);
        for i in 0..4 {
            to[i] = pack_low(q[2 * i], q[2 * i + 1]);
            to[i + 4] = pack_high(q[2 * i], q[2 * i + 1]);
        }
    }
    bytemuck::cast(packed)
}

/// Inverse of [`pack_pair_nibbles`].
pub fn unpack_pair_nibbles(words: &[u32; 32]) -> [u8; 128] {
    let nibbles: [[u32; 4]; 8] = bytemuck::cast(*words);
    join_pairs(&bytemuck::cast(nibbles.map(|words| unpack_nibbles(&words))))
}

/// One bit per weight as the K-quants store 256: bit `c` of byte `j` belongs to weight `32 c + j`.
/// As eight words of [`pack_bits`].
pub fn pack_bit_columns(bytes: &[u8; 32]) -> [u32; 8] {
    let q: [u32; 8] = words(bytes);
    std::array::from_fn(|c| (0..8).fold(0, |word, i| word | (q[i] >> c & 0x0101_0101) << i))
}

/// Inverse of [`pack_bit_columns`].
pub fn unpack_bit_columns(words: &[u32; 8]) -> [u8; 32] {
    let columns: [u32; 8] = words.map(unpack_bits);
    std::array::from_fn(|j| (0..8).fold(0, |byte, c| byte | ((columns[c] >> j) as u8 & 1) << c))
}

/// The eight scales and minimums of Q4_K and Q5_K, six bits each, as sc0, m0, sc1, m1, …
pub fn six_bit_pairs(s: &[u8; 12]) -> [u8; 16] {
    let pair = |j: usize| match j {
        0..4 => [s[j] & 63, s[j + 4] & 63],
        _ => [s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4],
    };
    std::array::from_fn(|i| pair(i / 2)[i % 2])
}

/// Inverse of [`six_bit_pairs`].
pub fn packed_six_bit_pairs(p: &[u8; 16]) -> [u8; 12] {
    let (sc, m) = (|j: usize| p[2 * j], |j: usize| p[2 * j + 1]);
    std::array::from_fn(|i| match i {
        0..4 => sc(i) | sc(i + 4) >> 4 << 6,
        4..8 => m(i - 4) | m(i) >> 4 << 6,
        _ => sc(i - 4) & 15 | (m(i - 4) & 15) << 4,
    })
}

/// The third bits of 32 codes: that of code `4 i + j` is bit `i` of byte `j`.
pub fn third_bits(codes: &[u8; 32]) -> u32 {
    let bit = |(i, q): (usize, &u8)| u32::from(q >> 2 & 1) << (i % 4 * 8 + i / 4);
    codes.iter().enumerate().map(bit).sum()
}

/// Bytes into as many words as they fill, little end first.
pub fn put_words(words: &mut [u32], bytes: &[u8]) {
    words.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, bytes)| *to = u32::from_le_bytes(*bytes));
}

/// The largest magnitude of finite weights: compared as integers it needs no order, and vectorizes.
pub fn largest(weights: &[f32]) -> f32 {
    let bits = |w: &f32| (w.to_bits() & 0x7fff_ffff) as i32;
    let (full, tail) = weights.as_chunks::<16>();
    let mut tops = [0; 16];
    for weights in full {
        tops.iter_mut().zip(weights).for_each(|(top, w)| *top = (*top).max(bits(w)));
    }
    let top = tops.into_iter().chain(tail.iter().map(bits)).max().unwrap_or(0);
    f32::from_bits(top as u32)
}
