//! How a tensor is stored: in a format this crate computes with, or in one whose name and size are
//! known.

use crate::format::{self, Format};
use std::fmt;

/// The type of a tensor's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DType {
    /// A format this crate can compute with.
    Supported(&'static Format),
    /// A type that can be listed and copied, but not computed with: those of safetensors alone, as
    /// U8 and F8_E4M3.
    Other(&'static OtherType),
}

/// A storage type that has a name and a size, and no decoder here.
#[derive(Debug, PartialEq)]
pub struct OtherType {
    /// The name that tools use: `U8`, `F8_E4M3`.
    pub name: &'static str,
    /// Weights in a block.
    pub block_weights: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

const fn other(name: &'static str, block_weights: usize, block_bytes: usize) -> OtherType {
    OtherType { name, block_weights, block_bytes }
}

/// The types that a safetensors file may name and that are no format of this crate, one row a line.
static OTHERS: &[OtherType] = &[
    other("BOOL", 1, 1),
    other("F4", 2, 1),
    other("F6_E2M3", 4, 3),
    other("F6_E3M2", 4, 3),
    other("U8", 1, 1),
    other("F8_E5M2", 1, 1),
    other("F8_E4M3", 1, 1),
    other("F8_E8M0", 1, 1),
    other("F8_E4M3FNUZ", 1, 1),
    other("F8_E5M2FNUZ", 1, 1),
    other("U16", 1, 2),
    other("U32", 1, 4),
    other("C64", 1, 8),
    other("U64", 1, 8),
];

/// What weights of a scheme are listed as that is known by name alone.
pub(crate) static UNSUPPORTED: OtherType = other("unsupported", 1, 0);

/// GGUF type numbers that ggml gave up, with the names they had.
static REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl DType {
    /// The type with this GGUF number, or why there is none.
    pub(crate) fn from_gguf(id: u32) -> Result<Self, String> {
        if let Some(format) = format::by_gguf_type(id) {
            return Ok(Self::Supported(format));
        }
        Err(match REMOVED.iter().find(|(removed, _)| *removed == id) {
            Some((_, name)) => {
                format!("its type {id} ({name}) was removed from GGUF; convert the model again")
            }
            None => format!("its type {id} is unknown, so its size is too"),
        })
    }

    /// The type with this safetensors name.
    pub(crate) fn from_dtype(name: &str) -> Option<Self> {
        // Only plain numbers: a block format may have the same name and lie differently.
        match format::by_name(name).filter(|f| f.is_plain()) {
            Some(format) => Some(Self::Supported(format)),
            None => OTHERS.iter().find(|t| t.name == name).map(Self::Other),
        }
    }

    /// The name that tools use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported(format) => format.name,
            Self::Other(other) => other.name,
        }
    }

    /// The format, if this crate can compute with it.
    pub fn format(self) -> Option<&'static Format> {
        match self {
            Self::Supported(format) => Some(format),
            Self::Other(_) => None,
        }
    }

    /// Type number in GGUF files, where the type may occur in them.
    pub fn gguf_type(self) -> Option<u32> {
        match self {
            Self::Supported(format) => format.gguf_type,
            Self::Other(_) => None,
        }
    }

    /// Weights in a block.
    pub fn block_weights(self) -> usize {
        match self {
            Self::Supported(format) => format.block_weights(),
            Self::Other(other) => other.block_weights,
        }
    }

    /// Bytes of a block; 0 of a format of several tensors, which has none.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Supported(format) => format.blocks().map_or(0, |b| b.bytes),
            Self::Other(other) => other.block_bytes,
        }
    }

    /// Average bits per weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        match self {
            Self::Supported(format) => format.bits_per_weight(),
            Self::Other(other) => other.block_bytes as f64 * 8.0 / other.block_weights as f64,
        }
    }

    /// Bytes of `shape`, or why there is no such number.
    pub(crate) fn bytes_of(self, shape: &[u64]) -> Result<u64, String> {
        let overflow = || format!("its shape {shape:?} overflows 64 bits");
        // Zeros count as one here, so that no partial product of the shape can overflow later.
        let product = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim.max(1)));
        let product = product.ok_or_else(overflow)?;
        let elements = if shape.contains(&0) { 0 } else { product };
        let block = self.block_weights() as u64;
        if !elements.is_multiple_of(block) {
            return Err(format!("its {elements} elements are no whole number of {self} blocks of {block}"));
        }
        (elements / block).checked_mul(self.block_bytes() as u64).ok_or_else(overflow)
    }

    /// As [`DType::bytes_of`], for files in which no block crosses a row.
    pub(crate) fn bytes_of_rows(self, shape: &[u64]) -> Result<u64, String> {
        let (cols, block) = (shape.last().copied().unwrap_or(1), self.block_weights() as u64);
        if !cols.is_multiple_of(block) {
            return Err(format!("{self} needs columns divisible by {block}, got {cols}"));
        }
        self.bytes_of(shape)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FORMATS;

    /// Number, name, weights and bytes of a block of every type of GGUF: a second witness of what
    /// the formats say.
    const GGUF: &[(u32, &str, usize, usize)] = &[
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (9, "Q8_1", 32, 36),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74),
        (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50),
        (20, "IQ4_NL", 32, 18),
        (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2),
        (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66),
        (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    ];

    #[test]
    fn every_type_of_gguf_is_a_format_of_its_size() {
        for &(id, name, block_weights, block_bytes) in GGUF {
            let stored = DType::from_gguf(id).expect(name);
            let format = stored.format().expect(name);
            assert_eq!((format.name, stored.gguf_type()), (name, Some(id)));
            assert_eq!(
                (stored.block_weights(), stored.block_bytes()),
                (block_weights, block_bytes),
                "{name}"
            );
        }
        assert_eq!(FORMATS.iter().filter(|f| f.gguf_type.is_some()).count(), GGUF.len());
    }

    #[test]
    fn sizes_are_exact_or_refused() {
        let q8_0 = DType::from_gguf(8).unwrap();
        assert_eq!(q8_0.bytes_of_rows(&[3, 64]), Ok(204));
        assert_eq!(q8_0.bytes_of_rows(&[]), Err("Q8_0 needs columns divisible by 32, got 1".into()));
        assert!(q8_0.bytes_of_rows(&[64, 33]).is_err());
        assert!(q8_0.bytes_of_rows(&[u64::MAX, 32]).is_err());
        assert!(q8_0.bytes_of_rows(&[u64::MAX / 32, 32]).is_err(), "the bytes overflow, the weights do not");
        assert!(q8_0.bytes_of_rows(&[0, u64::MAX, 1 << 40, 32]).is_err(), "a zero must not hide an overflow");
        assert_eq!(q8_0.bytes_of_rows(&[0, 32]), Ok(0));
    }

    #[test]
    fn removed_and_unknown_numbers_are_told_apart() {
        for (id, name) in REMOVED {
            assert!(DType::from_gguf(*id).unwrap_err().contains(name));
        }
        assert!(DType::from_gguf(4711).unwrap_err().contains("unknown"));
    }
}
