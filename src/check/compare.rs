//! What counts as equal: the comparison of a result with its reference, and all bounds.

use crate::error::{Error, Result};
use crate::kernel::{Activations, reference};
use crate::tensor::PackedTensor;
use serde::Serializer;
use std::fmt;

/// Bound of the normalized mean square error of a matmul with f32 activations and f32 sums.
pub const NMSE_F32: f64 = 1e-10;

/// Bound of the same for the outputs of one row of the weight: a single f32 sum strays further than
/// the mean.
pub const NMSE_ROW: f64 = 1e-8;

/// Bound for activations (and weights) rounded to f16: 2^-12 of each at worst, squared, is 6e-8.
pub const NMSE_F16: f64 = 1e-6;

/// Bound for activations rounded to eight bits per 32: for normal ones 2.5e-5 is to be expected.
pub const NMSE_Q8: f64 = 1e-4;

/// Bound for LLM.int8: half a step of 127 to the largest activation of a column below the
/// threshold. For normal ones 1e-4 is to be expected; a few large ones below the threshold make it
/// larger.
pub const NMSE_INT8: f64 = 1e-2;

/// The bound against the exact product for these activations.
pub fn bound(activations: Activations) -> f64 {
    match activations {
        Activations::F32 => NMSE_F32,
        Activations::F16 => NMSE_F16,
        Activations::Q8 => NMSE_Q8,
        // Three bytes lose no more than sums in f32 do.
        Activations::Q24 => NMSE_F32,
        Activations::Int8(_) => NMSE_INT8,
    }
}

/// How much wider the bound of a row is than that of the whole.
const ROW_FACTOR: f64 = NMSE_ROW / NMSE_F32;

/// Where and how much a result differs most.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Worst {
    /// Index in the result: `column * m + row`, or `row * k + column` of a dequantized weight.
    pub index: usize,
    /// What the device computed.
    #[serde(serialize_with = "number")]
    pub got: f64,
    /// What the reference says.
    #[serde(serialize_with = "number")]
    pub want: f64,
}

/// JSON has neither NaN nor infinity, and a report of a wrong value must tell it: as text then.
fn number<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.collect_str(value) }
}

/// A result held against its reference.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Comparison {
    /// Number of values compared.
    pub count: usize,
    /// Number of values that are not, as their sums might be beyond f32 on the way.
    pub skipped: usize,
    /// Σ(got − want)² / Σ want²; infinite if one side alone is not finite.
    #[serde(serialize_with = "number")]
    pub nmse: f64,
    /// Values whose bits differ, for comparisons that ask for equal bits.
    pub different: usize,
    /// The largest difference.
    pub worst: Option<Worst>,
    /// True if nothing was written behind the result.
    pub intact: bool,
    /// True if the result is right.
    pub passed: bool,
    /// What was said where the driver refused the operation, so that there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Comparison {
    /// No values, which are right.
    pub fn nothing() -> Self {
        Self {
            count: 0,
            skipped: 0,
            nmse: 0.0,
            different: 0,
            worst: None,
            intact: true,
            passed: true,
            refused: None,
        }
    }

    /// Of an operation that the driver refuses to carry out, as it may refuse a shader: it failed,
    /// and others may not.
    pub(super) fn or_refused(result: Result<Self>) -> Result<Self> {
        match result {
            Err(error @ Error::Gpu { .. }) => {
                let refused = Some(error.to_string());
                Ok(Self { nmse: f64::INFINITY, passed: false, refused, ..Self::nothing() })
            }
            other => other,
        }
    }

    /// With the comparison of a part of the result that starts at element `offset`.
    pub(super) fn add(&mut self, part: Self, offset: usize) {
        self.count += part.count;
        self.different += part.different;
        self.nmse = self.nmse.max(part.nmse);
        self.passed &= part.passed;
        self.intact &= part.intact;
        self.worst = self.worst.or(part.worst.map(|w| Worst { index: w.index + offset, ..w }));
    }

    /// Failed if the elements behind the result are not intact.
    pub(super) fn and(self, intact: bool) -> Self {
        Self { intact, passed: self.passed && intact, ..self }
    }
}

/// Holds `got` against `want` at a bound on the NMSE. If all of `want` is zero, all of `got` must
/// be.
pub fn compare(got: &[f32], want: &[f64], bound: f64) -> Comparison {
    compare_with_power(got, want, 0.0, bound)
}

/// [`compare`], relative to a power of at least `least_power`.
fn compare_with_power(got: &[f32], want: &[f64], least_power: f64, bound: f64) -> Comparison {
    let values = got.iter().zip(want).enumerate();
    let mut sums = Sums::default();
    values.for_each(|(index, (got, want))| sums.add(Worst { index, got: f64::from(*got), want: *want }));
    let compared = sums.compared(least_power, bound);
    Comparison { passed: compared.passed && got.len() == want.len(), ..compared }
}

/// What a comparison adds up.
#[derive(Clone, Default)]
struct Sums {
    count: usize,
    error: f64,
    power: f64,
    worst: Option<(f64, Worst)>,
}

impl Sums {
    fn add(&mut self, value: Worst) {
        let Worst { got, want, .. } = value;
        let difference = match (got.is_finite(), want.is_finite()) {
            (true, true) => (got - want).abs(),
            _ if got == want || (got.is_nan() && want.is_nan()) => 0.0,
            _ => f64::INFINITY,
        };
        if difference > self.worst.map_or(0.0, |(d, _)| d) {
            self.worst = Some((difference, value));
        }
        self.count += 1;
        self.error += difference * difference;
        self.power += if want.is_finite() { want * want } else { 0.0 };
    }

    fn nmse(&self, least_power: f64) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.power.max(least_power) }
    }

    /// Held against a bound.
    fn compared(&self, least_power: f64, bound: f64) -> Comparison {
        let (nmse, worst) = (self.nmse(least_power), self.worst.map(|(_, worst)| worst));
        Comparison { count: self.count, nmse, worst, passed: nmse <= bound, ..Comparison::nothing() }
    }
}

/// 2^-123: products of a subnormal scale are smaller.
const FLUSHED: f32 = f32::from_bits((127 - 123) << 23);

/// Holds `got` against `want` bit for bit, with the exceptions above.
pub fn compare_bits(got: &[f32], want: &[f32]) -> Comparison {
    let flushed = |got: f32, want: f32| got == 0.0 && want != 0.0 && want.abs() < FLUSHED;
    let equal = |got: f32, want: f32| {
        got.to_bits() == want.to_bits() || flushed(got, want) || (got.is_nan() && want.is_nan())
    };
    let wrong = |(got, want): (&f32, &f32)| !equal(*got, *want);
    let different = got.iter().zip(want).filter(|(g, w)| wrong((g, w))).count();
    let worst = got.iter().zip(want).position(wrong).map(|index| Worst {
        index,
        got: f64::from(got[index]),
        want: f64::from(want[index]),
    });
    let nmse = if different == 0 { 0.0 } else { f64::INFINITY };
    let passed = different == 0 && got.len() == want.len();
    Comparison { count: got.len(), nmse, different, worst, passed, ..Comparison::nothing() }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(refused) = &self.refused {
            return write!(f, "REFUSED, {refused}");
        }
        let verdict = if self.passed { "ok" } else { "WRONG" };
        write!(f, "{verdict}, nmse {:.1e}", self.nmse)?;
        if let (Some(w), false) = (&self.worst, self.passed) {
            write!(f, ", index {}: got {}, want {}", w.index, w.got, w.want)?;
        }
        if self.skipped > 0 {
            write!(f, ", {} of {} beyond f32 not compared", self.skipped, self.skipped + self.count)?;
        }
        if self.intact { Ok(()) } else { write!(f, ", wrote behind the result") }
    }
}

/// The bounds against the reference with activations as the kernel rounds them, and against the
/// exact one.
fn bounds(activations: Activations, rounds_weights: bool) -> (f64, f64) {
    (if rounds_weights { NMSE_F16 } else { NMSE_F32 }, bound(activations))
}

/// The bound of so many values that each stray at random.
fn widened(bound: f64, count: usize) -> f64 {
    bound * (1.0 + 16.0 / count.max(1) as f64)
}

/// Both must have passed; the numbers are those of the second, or of the one that failed.
fn worse(a: Comparison, b: Comparison) -> Comparison {
    if a.passed { b } else { a }
}

/// Holds `got`, `[n, m]`, against `x · wᵀ`, with the bounds for these activations.
///
/// # Errors
/// [`Error::Shape`] if `x` is not a whole number of columns.
pub fn judge(
    got: &[f32],
    packed: &PackedTensor,
    x: &[f32],
    activations: Activations,
    rounds_weights: bool,
) -> Result<Comparison> {
    let power = reference::row_power(packed, x)?;
    let rows = Rows { power: &power, terms: packed.cols(), of: &|output| output % power.len() };
    judge_against(got, &rows, activations, rounds_weights, |a| reference::matmul_with(packed, x, a))
}

/// The rows that outputs belong to.
pub(super) struct Rows<'a> {
    /// The power of the products of each, Σ(x·w)².
    pub power: &'a [f64],
    /// How many products one output has.
    pub terms: usize,
    /// Of which row an output is.
    pub of: &'a dyn Fn(usize) -> usize,
}

impl Rows<'_> {
    /// True if a sum of products of this row may be beyond f32, by the inequality of Cauchy and
    /// Schwarz.
    fn may_overflow(&self, row: usize) -> bool {
        self.terms as f64 * self.power[row] >= f64::from(f32::MAX).powi(2)
    }
}

/// Holds `got` against what `want` says for these activations, and for exact ones.
pub(super) fn judge_against(
    got: &[f32],
    rows: &Rows,
    activations: Activations,
    rounds_weights: bool,
    want: impl Fn(Activations) -> Result<Vec<f64>>,
) -> Result<Comparison> {
    let (twin, exact) = bounds(activations, rounds_weights);
    let against_exact = compare_rows(got, &want(Activations::F32)?, rows, exact);
    if activations == Activations::F32 {
        return Ok(against_exact);
    }
    Ok(worse(compare_rows(got, &want(activations)?, rows, twin), against_exact))
}

/// Holds `got` against `want` as a whole at `bound`, and row by row.
fn compare_rows(got: &[f32], want: &[f64], rows: &Rows, bound: f64) -> Comparison {
    let (mut whole, mut skipped) = (Sums::default(), 0);
    let mut sums = vec![Sums::default(); rows.power.len()];
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let (value, row) = (Worst { index, got: f64::from(*got), want: *want }, (rows.of)(index));
        if rows.may_overflow(row) {
            skipped += 1;
        } else {
            whole.add(value);
            sums[row].add(value);
        }
    }
    let compared_rows = (0..rows.power.len()).filter(|row| !rows.may_overflow(*row));
    let least_power = compared_rows.map(|row| rows.power[row]).sum();
    let compared = whole.compared(least_power, widened(bound, whole.count));
    let compared = Comparison { passed: compared.passed && got.len() == want.len(), skipped, ..compared };
    let beyond = |(row, power): (&Sums, &f64)| row.nmse(*power) / widened(bound, row.count);
    let worst = sums.iter().zip(rows.power).max_by(|a, b| beyond(*a).total_cmp(&beyond(*b)));
    match worst {
        Some((row, power)) if compared.passed && beyond((row, power)) > ROW_FACTOR => {
            Comparison { count: whole.count, skipped, ..row.compared(*power, 0.0) }
        }
        _ => compared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<'a>(power: &'a [f64], of: &'a dyn Fn(usize) -> usize) -> Rows<'a> {
        Rows { power, terms: 1, of }
    }

    #[test]
    fn nan_never_passes() {
        assert!(!compare(&[f32::NAN], &[1.0], 1.0).passed);
        assert!(!compare(&[1.0], &[f64::NAN], 1.0).passed);
        assert!(!compare(&[f32::INFINITY], &[1.0], 1e300).passed);
        assert!(!compare_bits(&[f32::NAN], &[1.0]).passed);
    }

    #[test]
    fn a_zero_reference_wants_zeros() {
        assert!(compare(&[0.0, -0.0], &[0.0, 0.0], NMSE_F32).passed);
        assert!(!compare(&[1e-30], &[0.0], NMSE_F32).passed);
    }

    #[test]
    fn a_cancelled_sum_is_held_against_its_products() {
        let (got, want) = ([1.000_02e-3], [1e-3]);
        assert!(!compare(&got, &want, NMSE_F32).passed);
        assert!(compare_with_power(&got, &want, 1.0, NMSE_F32).passed);
        assert!(!compare_with_power(&[1.1e-3], &want, 1.0, NMSE_F32).passed);
    }

    #[test]
    fn a_huge_row_hides_no_other() {
        let want = [1e6, 1.0, 1.0, 1.0];
        let power = want.map(|w| w * w);
        let compare_rows = |got: &[f32]| compare_rows(got, &want, &rows(&power, &|i| i), NMSE_F32);
        assert!(compare_rows(&want.map(|w| w as f32)).passed);
        let wrong = compare_rows(&[1e6, 1.0, 1.001, 1.0]);
        assert!(!wrong.passed && wrong.worst.is_some_and(|w| w.index == 2), "{wrong}");
        assert!(compare(&[1e6, 1.0, 1.001, 1.0], &want, NMSE_F32).passed, "the whole does not see it");
    }

    /// Two rows and three columns, of which the last is wrong in the small row.
    #[test]
    fn a_wrong_row_is_placed_in_its_column() {
        let want = [1e6, 1.0, 1e6, 1.0, 1e6, 1.0];
        let got = [1e6, 1.0, 1e6, 1.0, 1e6, 1.5];
        let wrong = compare_rows(&got, &want, &rows(&[3e12, 3.0], &|i| i % 2), NMSE_F32);
        assert_eq!(wrong.worst, Some(Worst { index: 5, got: 1.5, want: 1.0 }), "{wrong}");
    }

    #[test]
    fn sums_beyond_f32_are_not_held_against_a_device() {
        let (want, power) = ([1.8e39, 1.0], [1e78, 1.0]);
        let (both, first) = (rows(&power, &|i| i), rows(&power[..1], &|i| i));
        let right = compare_rows(&[f32::NAN, 1.0], &want, &both, NMSE_F32);
        assert!(right.passed && (right.count, right.skipped) == (1, 1), "{right:?}");
        assert!(right.to_string().ends_with("1 of 2 beyond f32 not compared"), "{right}");
        assert!(!compare_rows(&[f32::INFINITY, 1.5], &want, &both, NMSE_F32).passed);
        let nothing = compare_rows(&[f32::NAN], &want[..1], &first, NMSE_F32);
        assert!(nothing.passed && (nothing.count, nothing.skipped) == (0, 1));
        // Seven products of 1e38 each have no larger sum than f32 holds only if their signs differ;
        // three always.
        let power = |terms: i32| [f64::from(terms) * 1e76];
        let of =
            |terms: i32, power: &[f64]| Rows { power, terms: terms as usize, of: &|i| i }.may_overflow(0);
        assert!(of(7, &power(7)) && !of(3, &power(3)));
    }

    /// A weight that is no number leaves no room for a right result, but another's that is none.
    #[test]
    fn rows_without_numbers_are_compared() {
        let power = [f64::NAN];
        assert!(!compare_rows(&[1.0], &[f64::NAN], &rows(&power, &|i| i), NMSE_F32).passed);
    }

    #[test]
    fn reports_hold_what_json_has_no_numbers_for() {
        let wrong = compare(&[f32::NAN, 1.0], &[1.0, 1.0], NMSE_F32);
        let json = serde_json::to_value(&wrong).expect("plain data");
        assert_eq!((&json["nmse"], &json["worst"]["got"]), (&"inf".into(), &"NaN".into()), "{json}");
        assert_eq!(json["worst"]["want"], 1.0);
    }

    #[test]
    fn a_refused_operation_failed_and_a_lost_device_is_an_error() {
        let refusal = Error::Gpu { doing: "compiling `gemv`".into(), message: "no".into() };
        let refused = Comparison::or_refused(Err(refusal)).expect("an outcome");
        assert!(!refused.passed && refused.to_string() == "REFUSED, compiling `gemv`: no", "{refused}");
        assert!(Comparison::or_refused(Err(Error::DeviceLost("gone".into()))).is_err());
    }

    #[test]
    fn lengths_must_agree() {
        assert!(!compare(&[1.0], &[1.0, 2.0], NMSE_F32).passed);
        assert!(!compare_bits(&[], &[1.0]).passed);
    }

    #[test]
    fn the_bound_catches_a_scale_that_lost_four_mantissa_bits() {
        let want: Vec<f64> = crate::check::activations(1000, 1).iter().map(|v| f64::from(*v)).collect();
        let got: Vec<f32> = want.iter().map(|v| (*v * (1.0 + 1.0 / 128.0)) as f32).collect();
        assert!(!compare(&got, &want, NMSE_F32).passed);
    }

    #[test]
    fn the_worst_value_is_named() {
        let c = compare(&[1.0, 2.0, 3.0], &[1.0, 2.5, 3.1], NMSE_F32);
        assert_eq!(c.worst, Some(Worst { index: 1, got: 2.0, want: 2.5 }));
    }

    #[test]
    fn only_subnormals_may_be_flushed() {
        assert!(compare_bits(&[0.0], &[1e-40]).passed);
        assert!(!compare_bits(&[0.0], &[1e-30]).passed);
        assert!(!compare_bits(&[0.0], &[-0.0]).passed);
    }
}
