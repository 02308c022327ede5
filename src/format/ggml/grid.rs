//! What the formats with a code book of rows ("grid") share: signs, the order of their bits on the
//! device, and the words of the book there. Twin of `shaders/lib/grid.wgsl`.

use crate::format::bits;

/// A file of `tables/`: entries of `N` values.
pub const fn entries<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    let (entries, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    entries
}

/// Two entries of four values.
pub fn joined([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> [u8; 8] {
    [a, b, c, d, e, f, g, h]
}

/// `d` times each value, negative where its bit of `signs` is set.
pub fn signed(values: &[u8; 8], d: f32, signs: u8) -> [f32; 8] {
    // The signs are noise: a table, as a branch would be mispredicted.
    let masks = &SIGN_BITS[usize::from(signs)];
    std::array::from_fn(|j| f32::from_bits((d * f32::from(values[j])).to_bits() ^ masks[j]))
}

/// The sign bits of eight f32 for every byte of signs.
static SIGN_BITS: [[u32; 8]; 256] = sign_bits();

const fn sign_bits() -> [[u32; 8]; 256] {
    let mut all = [[0; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        all[i / 8][i % 8] = ((i / 8) as u32 >> (i % 8)) << 31;
        i += 1;
    }
    all
}

/// Eight signs from the low seven bits: the number of negative ones is even.
pub fn even_signs(bits: u32) -> u8 {
    let bits = bits as u8 & 127;
    let nibble = bits ^ bits >> 4;
    let pair = nibble ^ nibble >> 2;
    bits | (pair ^ pair >> 1) << 7
}

/// `d * (value + delta)` for values of -1, 0, 1. All sums are exact. One is added first because
/// unsigned bytes widen in vectors on every processor.
pub fn shifted(values: &[u8; 8], d: f32, delta: f32) -> [f32; 8] {
    values.map(|v| d * (f32::from(v.wrapping_add(1)) + (delta - 1.0)))
}

/// The 32 signs of a chunk as its shader wants them. The signs of a quad (bits `4 i ..` of `signs`)
/// go to one bit of each byte: an even quad `2 l` to bit `l`, an odd quad `2 l + 1` to bit `4 + l`.
/// So the four bits that [`even_signs`] computes are the top four.
pub fn pack_signs(signs: u32) -> u32 {
    (0..8).fold(0, |word, i| word | bits::spread(signs >> (4 * i)) << (i / 2 + i % 2 * 4))
}

/// Inverse of [`pack_signs`].
pub fn unpack_signs(word: u32) -> u32 {
    (0..8).fold(0, |signs, i| signs | bits::gather(word >> (i / 2 + i % 2 * 4)) << (4 * i))
}

/// The four times seven bits of [`even_signs`], from bit 0 on, with four more bits in the place of
/// the computed ones. Here `word` has the sevens first and the four on top.
pub fn pack_even_signs(word: u32) -> u32 {
    let signs = (0..4).fold(0, |signs, l| signs | (word >> (7 * l) & 127) << (8 * l));
    pack_signs(signs) | word >> 28 << 28
}

/// Inverse of [`pack_even_signs`].
pub fn unpack_even_signs(word: u32) -> u32 {
    let signs = unpack_signs(word & 0x0fff_ffff);
    (0..4).fold(word >> 28 << 28, |word, l| word | (signs >> (8 * l) & 127) << (7 * l))
}

/// The book of eight values of 8, 25, 43: a word an entry, a nibble a value, in the order of the
/// codes of [`bits::pack_nibbles`]. 8, 25, 43 are 8 + 0x00, 8 + 0x11, 8 + 0x23: the nibble holds
/// two bits of each digit.
pub fn words_of_nibbles(entries: &[[u8; 8]]) -> Vec<u32> {
    let nibble = |value: u8| (value - 8) & 3 | (value - 8) >> 4 << 2;
    entries
        .iter()
        .map(|values| {
            (0..8).fold(0, |word, j| word | u32::from(nibble(values[j])) << (j % 4 * 8 + j / 4 * 4))
        })
        .collect()
}

/// The book of four small values: a word an entry, which is a quad.
pub fn words_of_quads(entries: &[[u8; 4]]) -> Vec<u32> {
    entries.iter().map(|values| u32::from_le_bytes(*values)).collect()
}

/// The book of eight values of -1, 0, 1: two bits a value, the even entry of two in the upper half
/// of their word.
pub fn words_of_pairs(entries: &[[u8; 8]]) -> Vec<u32> {
    let half = |values: &[u8; 8]| (0..8).fold(0, |half, j| half | u32::from(values[j] & 3) << (2 * j));
    entries.as_chunks().0.iter().map(|[even, odd]| half(even) << 16 | half(odd)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_survive_packing() {
        for word in [0, 1, 0x8000_0000, 0x0f0f_0f0f, 0x1234_5678, 0xdead_beef, u32::MAX] {
            assert_eq!(unpack_signs(pack_signs(word)), word);
            assert_eq!(unpack_even_signs(pack_even_signs(word)), word);
        }
        assert_eq!(pack_signs(0x8080_8080), 0xf000_0000, "the last signs of eight are on top");
    }

    #[test]
    fn the_number_of_negative_signs_is_even() {
        for bits in 0..128 {
            let signs = even_signs(bits);
            assert_eq!((signs.count_ones() % 2, u32::from(signs & 127)), (0, bits));
        }
    }
}
