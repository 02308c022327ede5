//! The two tensors that hold columns of an INT8 weight in 16 bits beside its codes. They are this
//! crate's own: bitsandbytes does not read them.

use crate::error::Result;
use crate::file::container::tensors::{Files, TensorInfo};
use crate::linear::not_rising;

/// Numbers of the columns: I32 `[c]`, in order.
pub(crate) const LIST: &str = ".outlier_columns";
/// F16 `[m, c]`
pub(crate) const WEIGHT: &str = ".outlier_weight";

/// The numbers of the columns that were kept of a weight `[m, k]`: none if there is neither tensor.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where one is missing, types or shapes disagree, or
/// the numbers do not rise to below k.
pub(crate) fn check(
    [list, weight]: [Option<&TensorInfo>; 2],
    [m, k]: [u64; 2],
    files: &Files,
) -> Result<Vec<u32>> {
    let (list, weight) = match (list, weight) {
        (None, None) => return Ok(vec![]),
        (Some(list), Some(weight)) => (list, weight),
        (Some(only), None) => {
            return Err(files.malformed(only, format!("the checkpoint lacks its `{WEIGHT}`")));
        }
        (None, Some(only)) => return Err(files.malformed(only, format!("the checkpoint lacks its `{LIST}`"))),
    };
    files.typed(list, &["I32"])?;
    files.typed(weight, &["F16"])?;
    let &[count] = &list.shape[..] else {
        return Err(files.malformed(list, format!("a list belongs here, its shape is {:?}", list.shape)));
    };
    files.expect(weight, &[m, count], "weights of kept columns")?;
    let columns = files.words(list)?;
    if let Some(out) = columns.iter().find(|column| u64::from(**column) >= k) {
        return Err(files.malformed(list, format!("it names column {}, but there are {k}", *out as i32)));
    }
    match not_rising(&columns) {
        Some(problem) => Err(files.malformed(list, problem)),
        None => Ok(columns),
    }
}
