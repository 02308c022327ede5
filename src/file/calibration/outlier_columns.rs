//! Columns of INT8 weights that are kept in 16 bits beside the codes: which, and the two tensors
//! that hold them.
//!
//! LLM.int8 as the paper has it multiplies outlier features by the weights as they were. A
//! checkpoint has lost those: bitsandbytes takes its codes there, too. What is kept here has to be
//! chosen when the checkpoint is written, from activations or by a guess.

use crate::error::{Error, Result};
use crate::file::container::source::OpenOptions;
use crate::file::container::tensors::TensorInfo;
use crate::file::model::Model;
use crate::file::names::shown;
use crate::file::scheme::outlier_columns::{LIST, WEIGHT};
use crate::format::storage::Part;
use crate::tensor::check_finite;
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// Which columns of each weight are kept.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// So many that hold the weights of largest magnitude. It is the weaker choice: outliers are a
    /// matter of activations.
    Largest(usize),
    /// Those whose activations reach the threshold in a file of activations.
    Captured(Captures),
}

/// Outlier columns by the names of captured activations.
#[derive(Clone, Debug, PartialEq)]
pub struct Captures {
    label: String,
    by_name: HashMap<String, Capture>,
}

#[derive(Clone, Debug, PartialEq)]
struct Capture {
    k: usize,
    /// Those that reach the threshold in any row.
    columns: Vec<u32>,
}

impl Captures {
    /// Reads a safetensors file of activations in F32, F16 or BF16, `[k]`, `[n, k]` or with more
    /// dimensions before k. Those named `<module>` or `<module>.x` are of one module; one named
    /// `x`, or alone in the file, is of all weights with its k. Other tensors are passed over.
    ///
    /// # Errors
    /// Those of [`Model::open`]; [`Error::Argument`] if `threshold` is not above 0 or the file
    /// holds no floats; [`Error::NonFinite`].
    pub fn open(path: &Path, threshold: f32) -> Result<Self> {
        check_threshold(&path.display().to_string(), threshold)?;
        Self::of(&Model::open(path, &OpenOptions::default())?, threshold)
    }

    /// [`Captures::open`] of a file that is already in memory; `label` names it in errors.
    ///
    /// # Errors
    /// As there.
    pub fn from_bytes(label: &str, bytes: impl Into<Bytes>, threshold: f32) -> Result<Self> {
        check_threshold(label, threshold)?;
        Self::of(&Model::from_bytes(label, bytes)?, threshold)
    }

    fn of(model: &Model, threshold: f32) -> Result<Self> {
        let label = model.path().display().to_string();
        let mut by_name = HashMap::new();
        for info in model.tensors() {
            if matches!(info.dtype.name(), "F32" | "F16" | "BF16") && !info.shape.is_empty() {
                let x = model.tensor(info)?;
                let (k, x) = (x.cols(), x.dequantize());
                check_finite(&format!("{label}, tensor `{}`", shown(&info.name)), &x)?;
                by_name.insert(info.name.clone(), Capture { k, columns: outliers(&x, k, threshold) });
            }
        }
        match by_name.is_empty() {
            true => Err(Error::Argument(format!("{label} holds no activations in F32, F16 or BF16"))),
            false => Ok(Self { label, by_name }),
        }
    }

    /// The outlier columns of a module of `model`, none where nothing was captured.
    fn columns(&self, model: &Model, module: &str, k: usize) -> Result<&[u32]> {
        let own = [format!("{module}.x"), module.to_owned()];
        if let Some((name, capture)) = own.iter().find_map(|name| self.by_name.get_key_value(name)) {
            return match capture.k == k {
                true => Ok(&capture.columns),
                false => {
                    let what = format!("{}: columns of `{}`", self.label, shown(name));
                    Err(Error::shape(what, format!("{k}, as the weight has"), capture.k))
                }
            };
        }
        let common = self.common(model).filter(|capture| capture.k == k);
        Ok(common.map_or(&[], |capture| &capture.columns))
    }

    /// What is of all modules with its k.
    fn common(&self, model: &Model) -> Option<&Capture> {
        let of_one = |name: &str| {
            let module = name.strip_suffix(".x").unwrap_or(name);
            model.tensors().iter().any(|t| t.name.strip_suffix(".weight") == Some(module))
        };
        let alone =
            || self.by_name.iter().next().filter(|(name, _)| self.by_name.len() == 1 && !of_one(name));
        self.by_name.get("x").or_else(|| alone().map(|(_, capture)| capture))
    }
}

fn check_threshold(label: &str, threshold: f32) -> Result<()> {
    match threshold > 0.0 && threshold.is_finite() {
        true => Ok(()),
        false => {
            Err(Error::Argument(format!("{label}: no activation is an outlier at the threshold {threshold}")))
        }
    }
}

impl fmt::Display for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Columns of `x[n, k]` with a magnitude of `threshold` or more as f16 has it: what LLM.int8 takes
/// for outliers.
fn outliers(x: &[f32], k: usize, threshold: f32) -> Vec<u32> {
    // Without a row there may be any number of columns.
    let mut reached = vec![false; if x.is_empty() { 0 } else { k }];
    for x in x.chunks(k.max(1)) {
        let is_outlier = |v: &f32| half::f16::from_f32(*v).to_f32().abs() >= threshold;
        reached.iter_mut().zip(x).for_each(|(reached, v)| *reached |= is_outlier(v));
    }
    reached.iter().zip(0..).filter(|(reached, _)| **reached).map(|(_, column)| column).collect()
}

impl Keep {
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Largest(0) => {
                Err(Error::Argument("at least one column is kept, or nothing is said".into()))
            }
            _ => Ok(()),
        }
    }

    /// What is known of a weight `[m, k]` before it is read: the columns to keep.
    pub(crate) fn chosen(&self, model: &Model, weight: &TensorInfo) -> Result<Chosen> {
        let k = weight.cols() as usize;
        let module = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
        Ok(match self {
            Self::Nothing => Chosen::These(vec![]),
            Self::Largest(count) => Chosen::Largest((*count).min(k)),
            Self::Captured(captures) => Chosen::These(captures.columns(model, module, k)?.to_vec()),
        })
    }
}

/// [`Keep`] for one weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Chosen {
    Largest(usize),
    These(Vec<u32>),
}

impl Chosen {
    pub fn count(&self) -> usize {
        match self {
            Self::Largest(count) => *count,
            Self::These(columns) => columns.len(),
        }
    }

    /// The tensors beside a weight of `rows` rows, without their bytes.
    pub fn headers(&self, rows: usize) -> Vec<Part> {
        match self.count() {
            0 => vec![],
            count => {
                vec![Part::sibling(LIST, "I32", vec![count]), Part::sibling(WEIGHT, "F16", vec![rows, count])]
            }
        }
    }

    /// The same with the bytes of weights `[rows, k]`.
    pub fn parts(&self, weights: &[f32], (rows, k): (usize, usize)) -> Vec<Part> {
        let columns = match self {
            Self::Largest(count) => largest(weights, k, *count),
            Self::These(columns) => columns.clone(),
        };
        let list = columns.iter().flat_map(|column| (*column as i32).to_le_bytes()).collect::<Vec<_>>();
        let half = |w: f32| half::f16::from_f32(w).to_le_bytes();
        let row =
            |row: &[f32]| columns.iter().flat_map(|column| half(row[*column as usize])).collect::<Vec<_>>();
        let kept = weights.chunks(k.max(1)).flat_map(row).collect::<Vec<_>>();
        self.headers(rows).into_iter().zip([list, kept]).map(|(part, bytes)| part.with_bytes(bytes)).collect()
    }
}

/// The columns with the weights of largest magnitude, in order; of equals the first.
fn largest(weights: &[f32], k: usize, count: usize) -> Vec<u32> {
    let mut tops = vec![0f32; k];
    for row in weights.chunks(k.max(1)) {
        tops.iter_mut().zip(row).for_each(|(top, w)| *top = top.max(w.abs()));
    }
    let mut columns: Vec<u32> = (0..k as u32).collect();
    columns.sort_by(|a, b| tops[*b as usize].total_cmp(&tops[*a as usize]));
    columns.truncate(count);
    columns.sort_unstable();
    columns
}
