//! Whether activations and numbers of experts fit a weight: checked here for the device and for the
//! reference.

use crate::error::{Error, Result};
use crate::tensor::PackedTensor;

/// The batch size of activations `x` for weight `w`.
///
/// # Errors
/// [`Error::Shape`] if `x` is not a whole number of columns of `w.cols()` elements.
pub fn batch_of(w: &PackedTensor, x: &[f32]) -> Result<usize> {
    batch(w.name(), w.cols(), x.len())
}

/// The batch size of `len` activations for a weight `[m, k]` of this name.
pub(crate) fn batch(name: &str, k: usize, len: usize) -> Result<usize> {
    match k {
        0 if len == 0 => Ok(0),
        k if k > 0 && len.is_multiple_of(k) => Ok(len / k),
        _ => {
            Err(Error::shape(format!("activations for `{name}`"), format!("a multiple of {k} elements"), len))
        }
    }
}

/// Refuses numbers of experts that do not exist, or not the same number of them for each of `n`
/// columns.
pub(crate) fn check_experts(name: &str, stack: usize, n: usize, experts: &[u32]) -> Result<()> {
    if let Some(at) = experts.iter().position(|e| *e as usize >= stack) {
        return Err(Error::shape(format!("expert {at} for `{name}`"), format!("below {stack}"), experts[at]));
    }
    match n {
        0 if experts.is_empty() => Ok(()),
        n if n > 0 && experts.len().is_multiple_of(n) => Ok(()),
        _ => Err(Error::shape(format!("experts for `{name}`"), format!("a multiple of {n}"), experts.len())),
    }
}
