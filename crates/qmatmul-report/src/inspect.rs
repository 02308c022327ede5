//! What is in a model file.

use crate::{Cell, Column, NotChecked, Verdict, column, human_bytes};
use qmatmul::file::TensorInfo;
use std::collections::BTreeMap;

/// Of a tensor.
pub const COLUMNS: &[Column] = &[
    column("tensor", "tensor"),
    column("format", "format"),
    column("shape", "shape"),
    column("bytes", "size"),
    column("bits_per_weight", "bits"),
    column("supported", "supported"),
    column("scheme", "scheme"),
];

/// The row of a tensor under [`COLUMNS`].
pub fn cells(t: &TensorInfo) -> Vec<Cell> {
    vec![
        t.name.clone().into(),
        t.dtype.name().into(),
        Cell::shape(&t.shape),
        Cell::Bytes(t.bytes),
        Cell::Float(t.bits_per_weight(), 3),
        Cell::usual(t.dtype.format().is_some(), t.dtype.format().is_some(), "no"),
        t.module.as_ref().map(|m| m.description()).into(),
    ]
}

/// How many tensors, bytes and bits per weight, by format.
pub fn verdict(tensors: &[&TensorInfo]) -> Verdict {
    let mut by_format: BTreeMap<&str, usize> = BTreeMap::new();
    for t in tensors {
        *by_format.entry(t.dtype.name()).or_default() += 1;
    }
    let formats: Vec<_> = by_format.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let bytes: u64 = tensors.iter().map(|t| t.bytes).sum();
    let weights: u64 = tensors.iter().map(|t| t.elements()).sum();
    let bits = bytes as f64 * 8.0 / weights.max(1) as f64;
    let unsupported: Vec<_> = tensors.iter().filter(|t| t.dtype.format().is_none()).collect();
    let not = match unsupported.len() {
        0 => String::new(),
        count => format!(", {count} NOT SUPPORTED"),
    };
    let formats = if formats.is_empty() { String::new() } else { format!(": {}", formats.join(", ")) };
    let text =
        format!("{} tensors{not}, {bits:.3} bits per weight, {}{formats}", tensors.len(), human_bytes(bytes));
    let reason = |t: &&&TensorInfo| NotChecked {
        tensor: t.name.clone(),
        reason: format!("{} is not supported", t.unsupported().unwrap_or_default()),
    };
    let not_checked = unsupported.iter().map(reason).collect();
    Verdict { tensors: Some(tensors.len()), not_checked, ..Verdict::ok(text) }
}
