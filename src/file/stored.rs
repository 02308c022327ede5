//! How a tensor is stored: in a format this crate computes with, or in one whose name and size are known.

use crate::format::{self, Format};
use std::fmt;

/// The type of a tensor's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoredType {
    /// A format this crate can compute with.
    Supported(&'static Format),
    /// A format that can be listed and copied, but not computed with.
    Other(&'static OtherType),
}

/// A storage type that has a name and a size, and no decoder here.
#[derive(Debug, PartialEq)]
pub struct OtherType {
    /// The name that tools use: `IQ2_XXS`, `I64`.
    pub name: &'static str,
    /// Type number in GGUF files, where the type may occur in them.
    pub gguf_type: Option<u32>,
    /// Weights in a block.
    pub block_weights: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

const fn gguf(id: u32, name: &'static str, block_weights: usize, block_bytes: usize) -> OtherType {
    OtherType { name, gguf_type: Some(id), block_weights, block_bytes }
}

const fn plain(name: &'static str, block_weights: usize, block_bytes: usize) -> OtherType {
    OtherType { name, gguf_type: None, block_weights, block_bytes }
}

/// Every type that a GGUF or safetensors file may name, one row a line. A row whose format has a module in `format/`
/// is a second witness of its size, nothing more: the module wins.
static TYPES: &[OtherType] = &[
    gguf(0, "F32", 1, 4),
    gguf(1, "F16", 1, 2),
    gguf(2, "Q4_0", 32, 18),
    gguf(3, "Q4_1", 32, 20),
    gguf(6, "Q5_0", 32, 22),
    gguf(7, "Q5_1", 32, 24),
    gguf(8, "Q8_0", 32, 34),
    gguf(9, "Q8_1", 32, 36),
    gguf(10, "Q2_K", 256, 84),
    gguf(11, "Q3_K", 256, 110),
    gguf(12, "Q4_K", 256, 144),
    gguf(13, "Q5_K", 256, 176),
    gguf(14, "Q6_K", 256, 210),
    gguf(15, "Q8_K", 256, 292),
    gguf(16, "IQ2_XXS", 256, 66),
    gguf(17, "IQ2_XS", 256, 74),
    gguf(18, "IQ3_XXS", 256, 98),
    gguf(19, "IQ1_S", 256, 50),
    gguf(20, "IQ4_NL", 32, 18),
    gguf(21, "IQ3_S", 256, 110),
    gguf(22, "IQ2_S", 256, 82),
    gguf(23, "IQ4_XS", 256, 136),
    gguf(24, "I8", 1, 1),
    gguf(25, "I16", 1, 2),
    gguf(26, "I32", 1, 4),
    gguf(27, "I64", 1, 8),
    gguf(28, "F64", 1, 8),
    gguf(29, "IQ1_M", 256, 56),
    gguf(30, "BF16", 1, 2),
    gguf(34, "TQ1_0", 256, 54),
    gguf(35, "TQ2_0", 256, 66),
    gguf(39, "MXFP4", 32, 17),
    gguf(40, "NVFP4", 64, 36),
    gguf(41, "Q1_0", 128, 18),
    gguf(42, "Q2_0", 64, 18),
    plain("BOOL", 1, 1),
    plain("F4", 2, 1),
    plain("F6_E2M3", 4, 3),
    plain("F6_E3M2", 4, 3),
    plain("U8", 1, 1),
    plain("F8_E5M2", 1, 1),
    plain("F8_E4M3", 1, 1),
    plain("F8_E8M0", 1, 1),
    plain("F8_E4M3FNUZ", 1, 1),
    plain("F8_E5M2FNUZ", 1, 1),
    plain("U16", 1, 2),
    plain("U32", 1, 4),
    plain("C64", 1, 8),
    plain("U64", 1, 8),
];

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

impl StoredType {
    /// The type with this GGUF number, or why there is none.
    pub(crate) fn from_gguf(id: u32) -> Result<Self, String> {
        if let Some(format) = format::by_gguf_type(id) {
            return Ok(Self::Supported(format));
        }
        if let Some(other) = TYPES.iter().find(|t| t.gguf_type == Some(id)) {
            return Ok(Self::Other(other));
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
        match format::by_name(name).filter(|f| f.block_weights == 1) {
            Some(format) => Some(Self::Supported(format)),
            None => TYPES.iter().find(|t| t.name == name).map(Self::Other),
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
            Self::Other(other) => other.gguf_type,
        }
    }

    /// Weights in a block.
    pub fn block_weights(self) -> usize {
        match self {
            Self::Supported(format) => format.block_weights,
            Self::Other(other) => other.block_weights,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Supported(format) => format.block_bytes,
            Self::Other(other) => other.block_bytes,
        }
    }

    /// Average bits per weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_weights() as f64
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

    /// As [`StoredType::bytes_of`], for files in which no block crosses a row.
    pub(crate) fn bytes_of_rows(self, shape: &[u64]) -> Result<u64, String> {
        let (cols, block) = (shape.last().copied().unwrap_or(1), self.block_weights() as u64);
        if !cols.is_multiple_of(block) {
            return Err(format!("{self} needs columns divisible by {block}, got {cols}"));
        }
        self.bytes_of(shape)
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FORMATS;

    #[test]
    fn the_formats_agree_with_the_table_of_sizes() {
        let mut seen = 0;
        for format in FORMATS {
            let Some(id) = format.gguf_type else { continue };
            let row = TYPES.iter().find(|t| t.gguf_type == Some(id)).expect(format.name);
            assert_eq!(
                (row.name, row.block_weights, row.block_bytes),
                (format.name, format.block_weights, format.block_bytes)
            );
            seen += 1;
        }
        assert!(seen >= 9);
    }

    #[test]
    fn sizes_are_exact_or_refused() {
        let q8_0 = StoredType::from_gguf(8).unwrap();
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
            assert!(StoredType::from_gguf(*id).unwrap_err().contains(name));
        }
        assert!(StoredType::from_gguf(4711).unwrap_err().contains("unknown"));
    }
}
