//! A linear layer on the host: a weight, its bias, and what adapters of low rank add to it.
//!
//! `y[n, m] = x[n, k] · w[m, k]ᵀ + bias[m] + Σ s · (x · a[r, k]ᵀ) · b[m, r]ᵀ` over the adapters
//! (LoRA, Hu et al. 2021, section 4.1). Some columns of an INT8 weight may be kept in 16 bits:
//! `+ x[n, columns] · kept[m, c]ᵀ`, and w is zero there. The weight stays packed as it is, as in
//! the forward pass of QLoRA (Dettmers et al. 2023, equation 5).

use crate::error::{Error, Result, shown};
use crate::format::{self, Recipe};
use crate::tensor::PackedTensor;

/// What an adapter adds to one weight: `s · (x · aᵀ) · bᵀ`.
///
/// ```
/// use qmatmul::{Linear, Lora, PackedTensor, Recipe, format, kernel::reference};
///
/// # fn main() -> qmatmul::Result<()> {
/// let f32s = |name, shape: [usize; 2]| {
///     let ones = vec![1.0; shape[0] * shape[1]];
///     PackedTensor::encode(name, shape, &ones, &Recipe::new(format::F32))
/// };
/// let lora = Lora::new(f32s("a", [1, 3])?, f32s("b", [2, 1])?, 0.5)?; // rank 1, scale 0.5
/// let layer = Linear::new(f32s("w", [2, 3])?).with_adapter(lora)?;
/// let y = reference::linear(&layer, &[1.0, 2.0, 3.0], Default::default())?;
/// assert_eq!(y, [9.0, 9.0]); // 6 of the weight, 0.5 · 6 of the LoRA adapter
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lora {
    a: PackedTensor,
    b: PackedTensor,
    scale: f64,
}

impl Lora {
    /// From `a[r, k]`, `b[m, r]` and the scale s.
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in rank or it is 0, [`Error::NonFinite`] if the scale is no
    /// number.
    pub fn new(a: PackedTensor, b: PackedTensor, scale: f64) -> Result<Self> {
        if a.rows() != b.cols() || a.rows() == 0 {
            let what = format!("columns of `{}`, the rank", shown(b.name()));
            let wanted = format!("{}, the rows of `{}`, and not 0", a.rows(), shown(a.name()));
            return Err(Error::shape(what, wanted, b.cols()));
        }
        if !scale.is_finite() {
            return Err(Error::NonFinite {
                what: format!("the scale of `{}`", shown(b.name())),
                count: 1,
                first: 0,
            });
        }
        Ok(Self { a, b, scale })
    }

    /// `a[r, k]`, which is applied first.
    pub fn a(&self) -> &PackedTensor {
        &self.a
    }

    /// `b[m, r]`.
    pub fn b(&self) -> &PackedTensor {
        &self.b
    }

    /// The factor s.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The rank r.
    pub fn rank(&self) -> usize {
        self.a.rows()
    }
}

/// Columns of a weight in a wider format than the others, multiplied by themselves.
///
/// ```
/// use qmatmul::{Linear, OutlierColumns, PackedTensor, Recipe, format, kernel::reference};
///
/// # fn main() -> qmatmul::Result<()> {
/// let weights: Vec<f32> = (0..8).map(|w| w as f32).collect(); // [2, 4]
/// let int8 = PackedTensor::encode("w", [2, 4], &weights, &Recipe::new(format::INT8))?;
/// let f16 = Recipe::new(format::F16);
/// let wide = PackedTensor::encode("w, feature 3", [2, 1], &[3.0, 7.0], &f16)?;
/// let layer = Linear::new(int8).with_kept(OutlierColumns::new(vec![3], wide)?)?;
/// let y = reference::linear(&layer, &[0.0, 0.0, 0.0, 100.0], Default::default())?;
/// assert_eq!(y, [300.0, 700.0]); // feature 3 by its f16 weights, not by codes of eight bits
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OutlierColumns {
    columns: Vec<u32>,
    weight: PackedTensor,
}

impl OutlierColumns {
    /// From their numbers, in order, and `weight[m, c]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many numbers as columns, [`Error::Argument`] if there
    /// are none, or if the numbers do not rise.
    pub fn new(columns: Vec<u32>, weight: PackedTensor) -> Result<Self> {
        if weight.cols() != columns.len() {
            let what = format!("columns of `{}`", shown(weight.name()));
            return Err(Error::shape(what, columns.len(), weight.cols()));
        }
        if let Some(problem) = not_rising(&columns) {
            return Err(Error::Argument(format!("columns for `{}`: {problem}", shown(weight.name()))));
        }
        Ok(Self { columns, weight })
    }

    /// Their numbers, in order.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// `[m, c]`
    pub fn weight(&self) -> &PackedTensor {
        &self.weight
    }

    /// What they are multiplied by: the same columns of activations `x[n, k]`.
    pub(crate) fn gather(&self, x: &[f32], k: usize) -> Vec<f32> {
        x.chunks(k.max(1)).flat_map(|x| self.columns.iter().map(|column| x[*column as usize])).collect()
    }

    /// Activations `x[n, k]` with zeros there.
    pub(crate) fn clear(&self, x: &[f32], k: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        x.chunks_mut(k.max(1)).for_each(|x| self.columns.iter().for_each(|column| x[*column as usize] = 0.0));
        x
    }

    /// A bit for each of k columns.
    pub(crate) fn mask(&self, k: usize) -> Vec<u32> {
        let mut words = vec![0; k.div_ceil(32)];
        self.columns.iter().for_each(|column| words[*column as usize / 32] |= 1 << (column % 32));
        words
    }
}

/// What is wrong with numbers that should rise.
pub(crate) fn not_rising(columns: &[u32]) -> Option<String> {
    if columns.is_empty() {
        return Some("there are none".into());
    }
    let at = columns.windows(2).position(|pair| pair[0] >= pair[1])?;
    Some(format!("{} comes before {}, but they should rise", columns[at], columns[at + 1]))
}

/// A weight with all that is added to its product.
///
/// ```
/// use qmatmul::{Linear, PackedTensor, Recipe, format, kernel::reference};
///
/// # fn main() -> qmatmul::Result<()> {
/// let f32s = |name, shape, values: &[f32]| {
///     PackedTensor::encode(name, shape, values, &Recipe::new(format::F32))
/// };
/// let layer = Linear::new(f32s("w", [2, 2], &[1.0, 2.0, 3.0, 4.0])?)
///     .with_bias(f32s("bias", [1, 2], &[10.0, 20.0])?)?;
/// let y = reference::linear(&layer, &[1.0, 1.0], Default::default())?;
/// assert_eq!(y, [13.0, 27.0]);
/// # Ok(())
/// # }
/// ```
/// [`Runtime::upload_layer`](crate::Runtime::upload_layer) takes it to a device.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: PackedTensor,
    bias: Option<PackedTensor>,
    kept: Option<OutlierColumns>,
    adapters: Vec<Lora>,
}

impl Linear {
    /// The weight `w[m, k]` alone.
    pub fn new(weight: PackedTensor) -> Self {
        Self { weight, bias: None, kept: None, adapters: vec![] }
    }

    /// The same with a bias, one row of m values.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has not as many as the weight has rows.
    pub fn with_bias(mut self, bias: PackedTensor) -> Result<Self> {
        if (bias.rows(), bias.cols()) != (1, self.weight.rows()) {
            let what = format!("bias `{}` for `{}`", shown(bias.name()), shown(self.weight.name()));
            let wanted = format!("{} values", self.weight.rows());
            return Err(Error::shape(what, wanted, format!("{} x {}", bias.rows(), bias.cols())));
        }
        self.bias = Some(bias);
        Ok(self)
    }

    /// The same with some columns of the INT8 weight kept in a wider format. The weight has zeros
    /// there from now on.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight has not these columns or not as many rows,
    /// [`Error::Argument`] if it is not INT8 or has kept columns already.
    pub fn with_kept(mut self, kept: OutlierColumns) -> Result<Self> {
        if kept.weight.rows() != self.weight.rows() {
            let what = format!("rows of `{}`", shown(kept.weight.name()));
            let wanted = format!("{}, as `{}` has", self.weight.rows(), shown(self.weight.name()));
            return Err(Error::shape(what, wanted, kept.weight.rows()));
        }
        if self.kept.is_some() {
            let name = shown(self.weight.name());
            return Err(Error::Argument(format!("`{name}` has kept columns already")));
        }
        self.weight = self.weight.without_columns(&kept.columns)?;
        self.kept = Some(kept);
        Ok(self)
    }

    /// The same with one more adapter.
    ///
    /// # Errors
    /// [`Error::Shape`] if its a has not the columns of the weight, or its b not the rows.
    pub fn with_adapter(mut self, adapter: Lora) -> Result<Self> {
        let (a, b, w) = (&adapter.a, &adapter.b, &self.weight);
        let pairs = [("columns", a, a.cols(), w.cols()), ("rows", b, b.rows(), w.rows())];
        for (what, tensor, got, wanted) in pairs {
            if got != wanted {
                let what = format!("{what} of `{}`", shown(tensor.name()));
                return Err(Error::shape(what, format!("{wanted}, as `{}` has", shown(w.name())), got));
            }
        }
        self.adapters.push(adapter);
        Ok(self)
    }

    /// The weight `[m, k]`, zero in kept columns.
    pub fn weight(&self) -> &PackedTensor {
        &self.weight
    }

    /// The bias `[1, m]`, if there is one.
    pub fn bias(&self) -> Option<&PackedTensor> {
        self.bias.as_ref()
    }

    /// The columns that are kept in a wider format, if there are any.
    pub fn kept(&self) -> Option<&OutlierColumns> {
        self.kept.as_ref()
    }

    /// The adapters; all are added.
    pub fn adapters(&self) -> &[Lora] {
        &self.adapters
    }

    /// Refuses NaN and infinity in any part.
    ///
    /// # Errors
    /// [`Error::NonFinite`] of the first part that holds one.
    pub fn check_finite(&self) -> Result<()> {
        let low_rank = self.adapters.iter().flat_map(|l| [&l.a, &l.b]);
        let kept = self.kept.as_ref().map(|kept| &kept.weight);
        [&self.weight]
            .into_iter()
            .chain(&self.bias)
            .chain(kept)
            .chain(low_rank)
            .try_for_each(PackedTensor::check_finite)
    }

    /// All adapters as one of scale 1: `a[R, k]` and `b[m, R]` for the sum R of their ranks, each
    /// scale multiplied into its part of b. That rounds each of its weights once, by 2^-24 at most,
    /// and not at all if the scale is a power of two.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if b with its scale is beyond what f32 holds.
    pub(crate) fn joined(&self) -> Result<Option<[PackedTensor; 2]>> {
        // Without an element they add nothing, and of no bytes a file may claim any rank.
        if self.adapters.is_empty() || self.weight.rows() == 0 || self.weight.cols() == 0 {
            return Ok(None);
        }
        let name = self.weight.name();
        let all: Vec<_> = self.adapters.iter().map(|l| &l.a).collect();
        let rank = all.iter().map(|a| a.rows()).sum();
        let a_name = format!("{name}, a of its adapters");
        // As they are stored, unless that differs between adapters.
        let a = PackedTensor::stack(&a_name, &all).or_else(|_| {
            let values: Vec<f32> = all.iter().flat_map(|a| a.dequantize()).collect();
            PackedTensor::encode(&a_name, [rank, self.weight.cols()], &values, &Recipe::new(format::F32))
        })?;
        let b_name = format!("{name}, b of its adapters");
        let b = PackedTensor::encode(
            b_name,
            [self.weight.rows(), rank],
            &self.scaled_b(rank),
            &Recipe::new(format::F32),
        )?;
        Ok(Some([a, b]))
    }

    /// `s · b` of all adapters side by side, `[m, R]`.
    fn scaled_b(&self, rank: usize) -> Vec<f32> {
        let mut out = vec![0f32; self.weight.rows() * rank];
        let mut first = 0;
        for Lora { b, scale, .. } in &self.adapters {
            let columns = first..first + b.cols();
            for (row, out) in out.chunks_mut(rank).enumerate() {
                let out = &mut out[columns.clone()];
                b.decode_row(row, out);
                out.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
            }
            first = columns.end;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(name: &str, rows: usize, cols: usize, values: &[f32]) -> PackedTensor {
        PackedTensor::encode(name, [rows, cols], values, &Recipe::new(format::F32))
            .expect("finite values of this shape")
    }

    fn low_rank(rank: usize, (m, k): (usize, usize), scale: f64) -> Lora {
        let a: Vec<f32> = (0..rank * k).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..m * rank).map(|i| 1.0 + i as f32).collect();
        Lora::new(f32s("a", rank, k, &a), f32s("b", m, rank, &b), scale).expect("ranks agree")
    }

    #[test]
    fn adapters_are_joined_side_by_side() {
        let linear = Linear::new(f32s("w", 2, 3, &[0.0; 6]));
        assert!(linear.joined().expect("nothing to join").is_none());
        let linear = linear.with_adapter(low_rank(1, (2, 3), 2.0)).expect("fits");
        let linear = linear.with_adapter(low_rank(2, (2, 3), -0.5)).expect("fits");
        let [a, b] = linear.joined().expect("finite").expect("two adapters");
        assert_eq!(a.dequantize(), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(b.dequantize(), [2.0, -0.5, -1.0, 4.0, -1.5, -2.0]);
    }

    #[test]
    fn adapters_of_weights_without_elements_add_nothing() {
        let rank = 1 << 31;
        let adapter = Lora::new(f32s("a", rank, 0, &[]), f32s("b", 0, rank, &[]), 1.0);
        let linear = Linear::new(f32s("w", 0, 0, &[])).with_adapter(adapter.expect("ranks agree"));
        assert!(linear.expect("fits").joined().expect("nothing to join").is_none());
    }

    #[test]
    fn a_in_different_formats_is_joined_as_f32() {
        let a =
            PackedTensor::encode("a", [1, 3], &[1.0, 0.5, -2.0], &Recipe::new(format::F16)).expect("finite");
        let half = Lora::new(a, f32s("b", 2, 1, &[1.0, 1.0]), 1.0).expect("ranks agree");
        let linear = Linear::new(f32s("w", 2, 3, &[0.0; 6])).with_adapter(half).expect("fits");
        assert_eq!(linear.joined().expect("finite").expect("one")[0].format().name, "F16");
        let linear = linear.with_adapter(low_rank(1, (2, 3), 1.0)).expect("fits");
        let [a, _] = linear.joined().expect("finite").expect("two adapters");
        assert_eq!((a.format().name, a.dequantize()), ("F32", vec![1.0, 0.5, -2.0, 0.0, 1.0, 2.0]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let linear = || Linear::new(f32s("w", 2, 3, &[0.0; 6]));
        let refused = |result: Result<Linear>, words: [&str; 3]| {
            let text = result.expect_err("does not fit").to_string();
            assert!(words.iter().all(|w| text.contains(w)), "{text}");
        };
        refused(linear().with_adapter(low_rank(1, (2, 4), 1.0)), ["columns of `a`", "wanted 3", "got 4"]);
        refused(linear().with_adapter(low_rank(1, (5, 3), 1.0)), ["rows of `b`", "wanted 2", "got 5"]);
        refused(linear().with_bias(f32s("c", 1, 3, &[0.0; 3])), ["`c` for `w`", "2 values", "1 x 3"]);
        refused(linear().with_bias(f32s("c", 2, 1, &[0.0; 2])), ["`c` for `w`", "2 values", "2 x 1"]);
    }

    #[test]
    fn ranks_and_scales_are_checked() {
        let new = |a: (usize, usize), b: (usize, usize), scale| {
            let tensor = |name, (rows, cols)| f32s(name, rows, cols, &vec![0.0; rows * cols]);
            Lora::new(tensor("a", a), tensor("b", b), scale).map(drop)
        };
        assert!(new((2, 3), (4, 2), 1.0).is_ok());
        let text = new((2, 3), (4, 5), 1.0).expect_err("2 is not 5").to_string();
        assert!(text.contains("`b`") && text.contains("wanted 2") && text.contains("got 5"), "{text}");
        assert!(matches!(new((0, 3), (4, 0), 1.0), Err(Error::Shape { .. })));
        assert!(matches!(new((2, 3), (4, 2), f64::NAN), Err(Error::NonFinite { .. })));
    }

    #[test]
    fn a_scale_that_overflows_b_is_refused() {
        let linear = Linear::new(f32s("w", 2, 3, &[0.0; 6]));
        let linear = linear.with_adapter(low_rank(1, (2, 3), 1e300)).expect("fits");
        assert!(matches!(linear.joined(), Err(Error::NonFinite { .. })));
    }
}
