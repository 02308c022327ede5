//! A packed weight matrix on the host.

use crate::error::{Error, Result, shown};
use crate::format::recipe::{Job, Recipe};
use crate::format::storage::{BlockRows, Part, Picked};
use crate::format::{Format, Layout, Storage};
use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// A weight `w[rows, cols]` as its file stores it: a format, a shape, and the bytes (often slices
/// of a mapped file).
///
/// `rows` are the outputs (`m`), `cols` the inputs (`k`) of `y = x · wᵀ`.
///
/// ```
/// use qmatmul::{PackedTensor, format};
///
/// # fn main() -> qmatmul::Result<()> {
/// let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let bytes: Vec<u8> = values.iter().flat_map(|w| w.to_le_bytes()).collect();
/// let w = PackedTensor::new("w", format::F32, 2, 3, bytes)?; // from a file of one's own
/// assert_eq!((w.rows(), w.cols(), w.format().name), (2, 3, "F32"));
/// assert_eq!(w.dequantize(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert_eq!(w.select_rows(&[1])?.dequantize(), [4.0, 5.0, 6.0]);
/// let both = PackedTensor::stack("both", &[&w, &w])?; // one product for both
/// assert_eq!(both.rows(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PackedTensor {
    name: String,
    format: &'static Format,
    rows: usize,
    cols: usize,
    storage: Arc<dyn Storage>,
}

impl std::fmt::Debug for PackedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedTensor")
            .field("name", &self.name)
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl PackedTensor {
    /// A tensor of blocks over `data`, which must be exactly `rows` rows of `cols` weights.
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is not a multiple of the format's block, `data` has another
    /// length, or the tensor has 2^32 rows or columns; [`Error::Argument`] if the format is none of
    /// blocks.
    pub fn new(
        name: impl Into<String>,
        format: &'static Format,
        rows: usize,
        cols: usize,
        data: impl Into<Bytes>,
    ) -> Result<Self> {
        let (name, data) = (name.into(), data.into());
        check_shape(&name, rows, cols)?;
        let row_bytes = format.row_bytes_of(&name, cols)?;
        let bytes = row_bytes.checked_mul(rows);
        if bytes != Some(data.len()) {
            let wanted = bytes.map_or("more than the address space".into(), |b| format!("{b} bytes"));
            let what = format!("tensor `{}`: {rows} x {cols} weights in {}", shown(&name), format.name);
            return Err(Error::shape(what, wanted, format!("{} bytes", data.len())));
        }
        let storage = Arc::new(BlockRows { format, shape: [rows, cols], row_bytes, data });
        Ok(Self { name, format, rows, cols, storage })
    }

    /// A tensor of several parts, whose lengths have been checked.
    pub(crate) fn from_storage(
        name: impl Into<String>,
        (rows, cols): (usize, usize),
        storage: Arc<dyn Storage>,
    ) -> Result<Self> {
        let name = name.into();
        check_shape(&name, rows, cols)?;
        Ok(Self { name, format: storage.layout().format, rows, cols, storage })
    }

    /// The same with other storage around its own.
    pub(crate) fn with_storage(
        &self,
        around: impl FnOnce(Arc<dyn Storage>) -> Arc<dyn Storage>,
    ) -> Result<Self> {
        Self::from_storage(self.name.clone(), (self.rows, self.cols), around(self.storage.clone()))
    }

    /// A tensor of several parts that an encoder has made of finite weights. The scales of huge
    /// ones may be infinite all the same: their sums and differences overflow, and LLM.int8 makes
    /// halves of the weights first.
    pub(crate) fn encoded(name: String, [rows, cols]: [usize; 2], storage: Arc<dyn Storage>) -> Result<Self> {
        let packed = Self::from_storage(name, (rows, cols), storage)?;
        packed.check_finite()?;
        Ok(packed)
    }

    /// Encodes f32 weights `[rows, cols]` by a recipe on the CPU, rows in parallel. [`Recipe`] has
    /// an example; [`Runtime::encode`](crate::Runtime::encode) is a device's twin.
    ///
    /// # Errors
    /// [`Error::Argument`] if the format has no encoder or not the choice that the recipe makes,
    /// [`Error::NonFinite`] if a weight or a scale made of them is NaN or infinite,
    /// [`Error::Shape`] if `weights` has another length, and as in [`PackedTensor::new`].
    pub fn encode(
        name: impl Into<String>,
        shape: [usize; 2],
        weights: &[f32],
        recipe: &Recipe,
    ) -> Result<Self> {
        let name = name.into();
        recipe.check(&name)?;
        check_count(&name, shape, weights.len())?;
        check_finite(&format!("tensor `{}`", shown(&name)), weights)?;
        let format = recipe.format();
        let storage = format.encoder().encode(&Job { name: &name, shape, weights, recipe })?;
        match format.blocks() {
            // Their encoder has looked at each block.
            Some(_) => Self::from_storage(name, (shape[0], shape[1]), storage),
            None => Self::encoded(name, shape, storage),
        }
    }

    /// The tensor's name in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the weights are stored.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// Outputs, `m`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs, `k`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What a shader is told of the weights.
    pub fn layout(&self) -> Layout {
        self.storage.layout()
    }

    /// The tensors of a file that hold the weights, the codes first; none for what
    /// [`PackedTensor::select_rows`] or [`PackedTensor::stack`] have made.
    pub fn parts(&self) -> Vec<Part> {
        self.storage.parts()
    }

    /// The bytes of all [`PackedTensor::parts`], one after the other: nothing where there are none.
    pub fn data(&self) -> Bytes {
        let parts = self.parts();
        match &parts[..] {
            [part] => part.bytes.clone(),
            parts => parts.iter().flat_map(|part| part.bytes.iter().copied()).collect(),
        }
    }

    /// Some rows, in the order given.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no such row.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        if let Some(row) = rows.iter().find(|row| **row >= self.rows) {
            return Err(Error::shape(
                format!("row of `{}`", shown(&self.name)),
                format!("below {}", self.rows),
                row,
            ));
        }
        let picked = rows.iter().map(|row| (0, *row as u32)).collect();
        let storage = Arc::new(Picked { sources: vec![self.storage.clone()], rows: picked });
        Self::from_storage(self.name.clone(), (rows.len(), self.cols), storage)
    }

    /// The same with zeros in some columns: INT8 alone, whose codes stand for one weight each.
    ///
    /// # Errors
    /// [`Error::Argument`] for other formats, [`Error::Shape`] if there is no such column.
    pub fn without_columns(&self, columns: &[u32]) -> Result<Self> {
        if let Some(column) = columns.iter().find(|column| **column as usize >= self.cols) {
            let what = format!("column of `{}`", shown(&self.name));
            return Err(Error::shape(what, format!("below {}", self.cols), column));
        }
        let none = || {
            let (name, format) = (shown(&self.name), self.format.name);
            Error::Argument(format!("`{name}`: columns are taken out of INT8 weights, these are {format}"))
        };
        let storage = self.storage.without_columns(columns).ok_or_else(none)?;
        Self::from_storage(self.name.clone(), (self.rows, self.cols), storage)
    }

    /// The rows of several tensors of one layout and width, one after the other. As one weight they
    /// take one dispatch where they share their activations, as the projections of an attention do:
    /// y is `[n, sum of their rows]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are none or their formats or code books differ,
    /// [`Error::Shape`] if their columns do.
    pub fn stack(name: impl Into<String>, tensors: &[&Self]) -> Result<Self> {
        let name = name.into();
        let Some(first) = tensors.first() else {
            return Err(Error::Argument(format!("`{}` is to be a stack of no tensors", shown(&name))));
        };
        let (layout, words) = (first.layout(), first.layout().book.words());
        for other in tensors {
            if other.format != first.format {
                let (a, b) = (first.format.name, other.format.name);
                return Err(Error::Argument(format!(
                    "`{}`: {a} and {b} do not stack (`{}`)",
                    shown(&name),
                    shown(&other.name)
                )));
            }
            if other.cols != first.cols {
                let what = format!("`{}`: columns of `{}`", shown(&name), shown(&other.name));
                return Err(Error::shape(what, first.cols, other.cols));
            }
            let its = other.layout();
            if its.constants != layout.constants || its.book.words() != words {
                let [name, a, b] = [&name, &first.name, &other.name].map(|name| shown(name));
                return Err(Error::Argument(format!(
                    "`{name}`: `{a}` and `{b}` differ in block size or code book and do not stack"
                )));
            }
        }
        let rows = |(i, t): (usize, &&Self)| {
            let i = i as u32;
            (0..t.rows as u32).map(move |row| (i, row))
        };
        let picked: Vec<_> = tensors.iter().enumerate().flat_map(rows).collect();
        let sources = tensors.iter().map(|t| t.storage.clone()).collect();
        let count = picked.len();
        Self::from_storage(name, (count, first.cols), Arc::new(Picked { sources, rows: picked }))
    }

    /// Decodes one row into `out`, which has [`PackedTensor::cols`] elements.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.storage.decode_row(row, out);
    }

    /// Repacks a row into one row of each plane of the layout.
    pub(crate) fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        self.storage.pack_row(row, planes);
    }

    /// True if every scale of these rows is finite (for plain floats: every weight).
    pub(crate) fn rows_finite(&self, rows: Range<usize>) -> bool {
        self.storage.is_finite(rows)
    }

    /// All weights as f32, `[rows, cols]`, rows in parallel.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.rows * self.cols];
        if !out.is_empty() {
            out.par_chunks_mut(self.cols).enumerate().for_each(|(row, out)| self.decode_row(row, out));
        }
        out
    }

    /// How far the weights are from those that they were encoded from, `[rows, cols]`.
    ///
    /// ```
    /// # fn main() -> qmatmul::Result<()> {
    /// use qmatmul::{PackedTensor, Recipe, format};
    /// let weights: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
    /// let packed = PackedTensor::encode("w", [2, 32], &weights, &Recipe::new(format::Q8_0))?;
    /// assert!(packed.error(&weights)?.nmse() < 1e-4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if `weights` has another length.
    pub fn error(&self, weights: &[f32]) -> Result<SquaredError> {
        check_count(&self.name, [self.rows, self.cols], weights.len())?;
        if weights.is_empty() {
            return Ok(SquaredError::default());
        }
        let rows = weights.par_chunks(self.cols).enumerate();
        let of_row = |decoded: &mut Vec<f32>, (row, weights): (usize, &[f32])| {
            decoded.resize(self.cols, 0.0);
            self.decode_row(row, decoded);
            SquaredError::of(decoded, weights)
        };
        // The sum of all rows in their order is the same on every machine.
        let rows: Vec<_> = rows.map_init(Vec::new, of_row).collect();
        Ok(rows.into_iter().fold(SquaredError::default(), SquaredError::and))
    }

    /// Refuses NaN and infinite scales: a shader may fold `x * 0`, so they cannot be trusted to
    /// show in a result.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the number of rows that hold one and the first such row.
    pub fn check_finite(&self) -> Result<()> {
        if self.cols == 0 {
            return Ok(());
        }
        let bad = |row: &usize| !self.rows_finite(*row..*row + 1);
        let count = (0..self.rows).into_par_iter().filter(bad).count() as u64;
        match (0..self.rows).into_par_iter().find_first(bad) {
            None => Ok(()),
            Some(first) => Err(Error::NonFinite {
                what: format!("tensor `{}` ({}, counted in rows)", shown(&self.name), self.format.name),
                count,
                first: first as u64,
            }),
        }
    }
}

/// Sums of squares over weights: of what encoding changed, and of what was encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SquaredError {
    /// Σ (ŵ − w)²
    pub error: f64,
    /// Σ w²
    pub power: f64,
}

impl SquaredError {
    /// Of a row.
    fn of(decoded: &[f32], weights: &[f32]) -> Self {
        let (mut error, mut power) = ([0f64; LANES], [0f64; LANES]);
        // Sums side by side over chunks of a known size are vectors.
        let mut add = |got: &[f32; LANES], want: &[f32; LANES]| {
            for lane in 0..LANES {
                let (got, want) = (f64::from(got[lane]), f64::from(want[lane]));
                error[lane] += (got - want) * (got - want);
                power[lane] += want * want;
            }
        };
        let ((decoded, last_decoded), (weights, last_weights)) = (decoded.as_chunks(), weights.as_chunks());
        decoded.iter().zip(weights).for_each(|(got, want)| add(got, want));
        // Zeros add nothing.
        let padded = |last: &[f32]| std::array::from_fn(|lane| last.get(lane).copied().unwrap_or(0.0));
        add(&padded(last_decoded), &padded(last_weights));
        Self { error: error.iter().sum(), power: power.iter().sum() }
    }

    /// The sums with those of other weights.
    pub fn and(self, other: Self) -> Self {
        Self { error: self.error + other.error, power: self.power + other.power }
    }

    /// Σ (ŵ − w)² / Σ w²: 0 if nothing was changed, infinite where zeros were.
    pub fn nmse(self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.power }
    }
}

const LANES: usize = 8;

pub(crate) fn check_count(name: &str, [rows, cols]: [usize; 2], weights: usize) -> Result<()> {
    if rows.checked_mul(cols) != Some(weights) {
        let wanted = format!("{rows} x {cols}");
        return Err(Error::shape(format!("tensor `{}`: weights", shown(name)), wanted, weights));
    }
    Ok(())
}

fn check_shape(name: &str, rows: usize, cols: usize) -> Result<()> {
    if u32::try_from(rows.max(cols)).is_err() {
        let wanted = format!("at most {} rows and columns", u32::MAX);
        return Err(Error::shape(format!("tensor `{}`", shown(name)), wanted, format!("{rows} x {cols}")));
    }
    Ok(())
}

/// Refuses NaN and infinity in `values`.
///
/// # Errors
/// [`Error::NonFinite`] with the count and the first index.
pub fn check_finite(what: &str, values: &[f32]) -> Result<()> {
    // One pass without branches first: it vectorizes, and nearly always it is the last.
    if values.par_chunks(1 << 16).all(|chunk| chunk.iter().fold(true, |ok, v| ok & v.is_finite())) {
        return Ok(());
    }
    let count = values.par_iter().filter(|v| !v.is_finite()).count() as u64;
    let first = values.iter().position(|v| !v.is_finite()).unwrap_or_default() as u64;
    Err(Error::NonFinite { what: what.into(), count, first })
}
