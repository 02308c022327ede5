//! How a matmul takes its activations, and which weights that suits.

use crate::error::{Error, Result};
use crate::format::{Codes, Format, Layout};

/// How a matmul takes its activations. Sums are in f32, or in i32 within 32 products of codes.
///
/// ```
/// use qmatmul::{Activations, format};
///
/// let activations: Activations = "q8".parse()?;
/// assert!(activations.suit_format(format::Q4_K)); // integer codes with scales
/// assert!(!activations.suit_format(format::NF4)); // a codebook of floats
/// assert_eq!(Activations::default(), Activations::F32);
/// # Ok::<(), qmatmul::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Activations {
    /// As they are.
    #[default]
    F32,
    /// Rounded to f16 after a power of two has been taken out of each column, so that none
    /// overflows.
    F16,
    /// Rounded to eight bits with a scale for each 32, and multiplied as integers.
    Q8,
    /// Rounded to 24 bits with a power of two for each 32, and multiplied as integers of three
    /// bytes: about the error of sums in f32, and half of their operations where a GPU multiplies
    /// bytes four at a time.
    Q24,
    /// LLM.int8: rounded to eight bits with a scale for each column, and multiplied as integers,
    /// but for the features that reach the threshold in any column of the batch, which are taken as
    /// they are. For INT8 weights.
    Int8(Threshold),
}

/// From which magnitude on LLM.int8 leaves an activation out of its integers; 0 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Threshold(u32);

impl Threshold {
    /// A threshold of 0 or more.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is negative or no number.
    pub fn new(value: f32) -> Result<Self> {
        match value >= 0.0 && value.is_finite() {
            true => Ok(Self(value.abs().to_bits())),
            false => Err(Error::Argument(format!("a threshold is 0 or more, not {value}"))),
        }
    }

    /// The number.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }

    /// False if nothing is an outlier.
    pub fn is_some(self) -> bool {
        self.value() > 0.0
    }
}

/// That of transformers.
impl Default for Threshold {
    fn default() -> Self {
        Self(6f32.to_bits())
    }
}

impl Activations {
    /// Those that kernels are written for, the exact one first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Q24, Self::F16, Self::Q8];

    /// Those that the kernel of the weights takes: LLM.int8's integers are multiplied by a kernel
    /// of eight-bit activations.
    pub fn of_kernels(self) -> Self {
        match self {
            Self::Int8(_) => Self::Q8,
            other => other,
        }
    }

    /// All kinds, the exact one first; LLM.int8 with the threshold of transformers.
    pub fn kinds() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().chain([Self::Int8(Threshold::default())])
    }

    /// True if weights of this format, which gives these codes, can be multiplied so: the rule for
    /// all.
    fn fit(self, format: &Format, codes: Codes) -> bool {
        match self {
            Self::F32 | Self::F16 => true,
            Self::Q8 | Self::Q24 => codes == Codes::Integers,
            // Outlier features ask the shader for single weights.
            Self::Int8(_) => codes == Codes::Integers && format.name == "INT8",
        }
    }

    /// True if weights of this format can be multiplied so as its own encoder makes them.
    pub fn suit_format(self, format: &Format) -> bool {
        self.fit(format, format.codes)
    }

    /// True if weights of this layout can be multiplied so. LLM.int8's kernels do not know columns
    /// in another order.
    pub fn suit(self, layout: &Layout) -> bool {
        self.fit(layout.format, layout.codes) && !(layout.ordered && matches!(self, Self::Int8(_)))
    }

    /// True if a mixture of experts can be multiplied so.
    pub fn suit_experts(self) -> bool {
        !matches!(self, Self::Int8(_))
    }

    /// True if a kernel can multiply such activations by weights that give these codes.
    pub(super) fn suit_codes(self, codes: Codes) -> bool {
        !matches!(self, Self::Q8 | Self::Q24) || codes == Codes::Integers
    }

    /// Says why weights are not multiplied so.
    ///
    /// # Errors
    /// [`Error::Argument`] unless activations [`suit`](Self::suit) them.
    pub(super) fn check(self, name: &str, layout: &Layout) -> Result<()> {
        if self.suit(layout) { Ok(()) } else { Err(self.refused(name, layout.format)) }
    }

    /// Says why a mixture of experts is not multiplied so.
    ///
    /// # Errors
    /// [`Error::Argument`] unless activations [`suit_experts`](Self::suit_experts).
    pub(super) fn check_experts(self, name: &str) -> Result<()> {
        if self.suit_experts() {
            return Ok(());
        }
        Err(Error::Argument(format!("LLM.int8 is not for the experts of `{name}`")))
    }

    /// What is said of weights that cannot be multiplied so.
    pub(super) fn refused(self, name: &str, format: &Format) -> Error {
        let (format, activations) = (format.name, self.name());
        Error::Argument(match self {
            Self::Int8(_) => format!("`{name}`: LLM.int8 takes INT8 weights, these are {format}"),
            _ => format!(
                "these {format} weights give no signed codes of eight bits by 32, so {activations} activations do not apply"
            ),
        })
    }

    /// `f32`, `f16`, `q8`, `q24` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q24 => "q24",
            Self::Int8(_) => "int8",
        }
    }
}

/// Parses the name of [`Activations`], in any case.
impl std::str::FromStr for Activations {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::kinds().find(|a| a.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::Argument(format!("activations are f32, f16, q8, q24 or int8, not `{name}`"))
        })
    }
}
