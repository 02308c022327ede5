//! Repacking of small codes into words whose bytes are the codes of four consecutive weights.

/// The 32 four-bit codes of a block as four words: byte `j` of word `i` holds code `8 i + j` in its low nibble and code
/// `8 i + 4 + j` in its high nibble.
pub fn pack_nibbles(codes: &[u8; 32]) -> [u32; 4] {
    std::array::from_fn(|i| {
        let byte = |j: usize| codes[8 * i + j] & 15 | (codes[8 * i + 4 + j] & 15) << 4;
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    })
}

/// Inverse of [`pack_nibbles`].
pub fn unpack_nibbles(words: &[u32]) -> [u8; 32] {
    std::array::from_fn(|e| {
        let byte = words[e / 8].to_le_bytes()[e % 4];
        if e % 8 < 4 { byte & 15 } else { byte >> 4 }
    })
}

/// Nibbles as GGUF's 32-blocks store them: byte `j` holds code `j` (low) and code `16 + j` (high).
pub fn split_halves(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|e| if e < 16 { qs[e] & 15 } else { qs[e - 16] >> 4 })
}

/// Inverse of [`split_halves`].
pub fn join_halves(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4)
}

/// One bit per weight, bit `e` to bit `e / 4` of byte `e % 4`.
pub fn pack_bits(bits: u32) -> u32 {
    (0..32).fold(0, |word, e| word | ((bits >> e) & 1) << (e % 4 * 8 + e / 4))
}

/// Inverse of [`pack_bits`].
pub fn unpack_bits(word: u32) -> u32 {
    (0..32).fold(0, |bits, e| bits | ((word >> (e % 4 * 8 + e / 4)) & 1) << e)
}

/// Writes number `i` of a plane of f16 pairs.
pub fn put_half(plane: &mut [u32], i: usize, half: [u8; 2]) {
    let shift = i % 2 * 16;
    plane[i / 2] = plane[i / 2] & !(0xffff << shift) | u32::from(u16::from_le_bytes(half)) << shift;
}

/// Reads number `i` of a plane of f16 pairs.
pub fn get_half(plane: &[u32], i: usize) -> [u8; 2] {
    ((plane[i / 2] >> (i % 2 * 16)) as u16).to_le_bytes()
}

/// f32 of an f16 as stored.
pub fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// An f16 as stored, rounded to nearest even.
pub fn to_half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

/// True if the f16 is neither NaN nor infinite.
pub fn finite(bytes: [u8; 2]) -> bool {
    half::f16::from_le_bytes(bytes).is_finite()
}

/// A row of 16-bit numbers as one plane, two a word, low half first.
pub fn pack_halves(row: &[u8], planes: &mut [&mut [u32]]) {
    let words = row.chunks(4).map(|b| match *b {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        [a, b] => u32::from_le_bytes([a, b, 0, 0]),
        _ => unreachable!("rows are whole numbers of 2 bytes"),
    });
    planes[0].iter_mut().zip(words).for_each(|(to, word)| *to = word);
}

/// Inverse of [`pack_halves`].
pub fn unpack_halves(planes: &[&[u32]], row: &mut [u8]) {
    for (i, to) in row.as_chunks_mut().0.iter_mut().enumerate() {
        *to = get_half(planes[0], i);
    }
}

/// The 32 two-bit codes of a chunk as two words: bits `2 i`, `2 i + 1` of byte `j` of a word hold code `4 i + j` of its 16.
pub fn pack_pairs(codes: &[u8; 32]) -> [u32; 2] {
    std::array::from_fn(|word| {
        let codes = &codes[16 * word..16 * word + 16];
        (0..16).fold(0, |w, e| w | u32::from(codes[e] & 3) << (e % 4 * 8 + e / 4 * 2))
    })
}

/// Inverse of [`pack_pairs`].
pub fn unpack_pairs(words: &[u32]) -> [u8; 32] {
    std::array::from_fn(|e| (words[e / 16] >> (e % 4 * 8 + e % 16 / 4 * 2)) as u8 & 3)
}
