//! What weights are encoded into, and what an encoder is.

use crate::error::{Error, Result, shown};
use crate::format::{Format, Storage};
use std::sync::Arc;

/// What weights `[rows, cols]` become: a format, and what its encoder leaves to choose.
///
/// [`PackedTensor::encode`](crate::PackedTensor::encode) and
/// [`Runtime::encode`](crate::Runtime::encode) take one. Whether a format has such a choice, and
/// whether the choice is one of those it knows, they check before they look at the weights.
///
/// ```
/// use qmatmul::format::recipe::{FourBitConfig, Group};
/// use qmatmul::format::{INT4, NF4, Q8_0};
/// use qmatmul::{PackedTensor, Recipe};
///
/// # fn main() -> qmatmul::Result<()> {
/// let weights = vec![0.5f32; 2 * 128];
/// let q8_0 = PackedTensor::encode("w", [2, 128], &weights, &Recipe::new(Q8_0))?;
/// assert_eq!(q8_0.data().len(), 2 * 4 * 34); // four blocks of 34 bytes a row
///
/// let config = FourBitConfig { block: 128, double: true, ..FourBitConfig::default() };
/// let nf4 = PackedTensor::encode("w", [2, 128], &weights, &Recipe::four_bit(NF4, config))?;
/// let int4 = Recipe::uniform(INT4, Group::Columns(32));
/// let int4 = PackedTensor::encode("w", [2, 128], &weights, &int4)?;
/// assert_eq!(int4.dequantize(), nf4.dequantize());
///
/// let error = PackedTensor::encode("w", [2, 128], &weights, &Recipe::four_bit(Q8_0, config));
/// assert_eq!(error.unwrap_err().to_string(), "tensor `w`: Q8_0 has no blocks to choose");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    format: &'static Format,
    choice: Choice,
}

/// What an encoder leaves to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// What the format's own tools do where nothing is said.
    Default,
    /// Blocks of weights, and their scales: NF4 and FP4.
    FourBit(FourBitConfig),
    /// What shares a scale: INT2 to UINT8.
    Group(Group),
}

impl Recipe {
    /// A format with the choices that its own tools make where nothing is said: ggml's plain
    /// quantizer, bitsandbytes with blocks of 64, LLM.int8 with a scale a row, a group of 128.
    pub fn new(format: &'static Format) -> Self {
        Self { format, choice: Choice::Default }
    }

    /// NF4 or FP4 with blocks and scales of one's choice.
    pub fn four_bit(format: &'static Format, config: FourBitConfig) -> Self {
        Self { format, choice: Choice::FourBit(config) }
    }

    /// Integer codes, INT2 to INT8 or UINT2 to UINT8, with scales for groups of one's choice. INT8
    /// does without the rounding to halves that LLM.int8 begins with.
    pub fn uniform(format: &'static Format, group: Group) -> Self {
        Self { format, choice: Choice::Group(group) }
    }

    /// The format of the encoded weights.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    pub(crate) fn choice(&self) -> Choice {
        self.choice
    }

    /// Why nobody can encode so, if nobody can.
    pub(crate) fn fault(&self) -> Option<String> {
        self.format.encoder().fault(self)
    }

    /// Refuses a recipe for this tensor that nobody can encode by.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let refuse = |fault| Err(Error::Argument(format!("tensor `{}`: {fault}", shown(name))));
        self.fault().map_or(Ok(()), refuse)
    }

    /// The fault of an encoder that this choice is not for.
    pub(in crate::format) fn foreign_choice(&self) -> Option<String> {
        let what = match self.choice {
            Choice::Default => return None,
            Choice::FourBit(_) => "blocks",
            Choice::Group(_) => "groups",
        };
        Some(format!("{} has no {what} to choose", self.format.name))
    }
}

/// What bitsandbytes lets its user choose for NF4 and FP4: [`Recipe::four_bit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FourBitConfig {
    /// Weights that share a scale: a power of two from 32 to 4096.
    pub block: usize,
    /// Quantize the scales, too.
    pub double: bool,
    /// What the weights were before, and what bitsandbytes makes of them.
    pub dtype: Dtype,
}

impl FourBitConfig {
    /// Why there is no such block, if there is none.
    pub(crate) fn fault(&self) -> Option<String> {
        let known = (32..=4096).contains(&self.block) && self.block.is_power_of_two();
        (!known).then(|| format!("blocksize {} is no power of two from 32 to 4096", self.block))
    }
}

impl Default for FourBitConfig {
    fn default() -> Self {
        Self { block: 64, double: false, dtype: Dtype::F32 }
    }
}

/// What bitsandbytes rounds weights to when it decodes them. This crate computes with what comes
/// before that rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Dtype {
    /// `float16`
    F16,
    /// `bfloat16`
    Bf16,
    /// `float32`
    F32,
}

impl Dtype {
    /// From PyTorch's name, with `torch.` or without.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.strip_prefix("torch.").unwrap_or(name) {
            "float16" => Some(Self::F16),
            "bfloat16" => Some(Self::Bf16),
            "float32" => Some(Self::F32),
            _ => None,
        }
    }

    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
        }
    }
}

/// Which weights of integer codes share a scale: [`Recipe::uniform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Group {
    /// The whole tensor.
    Tensor,
    /// A row.
    Row,
    /// So many consecutive columns of a row, the last of which may be fewer.
    Columns(usize),
}

/// Weights to encode. Whoever makes one has checked their number, that all are finite, and the
/// recipe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// `[rows, cols]`
    pub weights: &'a [f32],
    /// The format is the encoder's own.
    pub recipe: &'a Recipe,
}

/// The CPU's encoder of a format, which stands beside the decoder. A device's encoder gives the
/// same bytes.
pub(crate) trait Encoder: Sync {
    /// Why it cannot encode by a recipe of its format, if it cannot.
    fn fault(&self, recipe: &Recipe) -> Option<String> {
        recipe.foreign_choice()
    }

    /// Encodes as the format's own tools do, rows in parallel.
    ///
    /// # Errors
    /// [`Error::Shape`] if rows are no whole number of blocks, [`Error::NonFinite`] if blocks of
    /// finite weights became infinite.
    fn encode(&self, job: &Job) -> Result<Arc<dyn Storage>>;
}
