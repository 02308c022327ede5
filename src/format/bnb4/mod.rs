//! bitsandbytes' four bits: indices into a codebook of sixteen values.

pub(crate) mod four_bit;
pub(crate) mod fp4;
pub(crate) mod nf4;

use crate::format::Format;
use four_bit::Table;

/// Whether a format has codes of four bits that are indices: NF4 and FP4.
pub fn is_four_bit(format: &Format) -> bool {
    table(format).is_some()
}

/// The table of a format of four bits.
pub(crate) fn table(format: &Format) -> Option<&'static Table> {
    [&nf4::TABLE, &fp4::TABLE].into_iter().find(|table| table.format == format)
}
