//! What `quantize` can make of the weights of a checkpoint.

use crate::error::{Error, Result};
use crate::file::calibration::outlier_columns::{Chosen, Keep};
use crate::file::{Model, TensorInfo};
use crate::format::recipe::{Dtype, FourBitConfig, Recipe};
use crate::format::storage::Part;
use crate::format::{self, Format, bnb4, four_bit, uniform};
use serde_json::{Value, json};

/// A format of bitsandbytes, with what its user may choose.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// NF4 or FP4. For a whole checkpoint [`FourBitConfig::dtype`] does not matter: it is what each
    /// weight was.
    FourBit(&'static Format, FourBitConfig),
    /// INT8 for LLM.int8.
    Int8 {
        /// What is written down for those who load it: from which magnitude on an activation is an
        /// outlier, 0 for never.
        threshold: f32,
        /// Columns that are written in 16 bits besides, for
        /// [`Model::linear`](crate::file::Model::linear). bitsandbytes does not read them.
        keep: Keep,
    },
}

impl Target {
    /// The format of the weights.
    pub fn format(&self) -> &'static Format {
        match self {
            Self::FourBit(format, _) => format,
            Self::Int8 { .. } => format::INT8,
        }
    }

    /// How the weights are encoded.
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::FourBit(format, config) => Recipe::four_bit(format, *config),
            Self::Int8 { .. } => Recipe::new(format::INT8),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fault = match self {
            Self::FourBit(format, _) if bnb4::table(format).is_none() => {
                Some(format!("{} cannot be written into a checkpoint of bitsandbytes", format.name))
            }
            Self::FourBit(..) => self.recipe().fault(),
            Self::Int8 { threshold, keep } => {
                keep.check()?;
                (!(*threshold >= 0.0 && threshold.is_finite()))
                    .then(|| format!("a threshold is 0 or more, not {threshold}"))
            }
        };
        fault.map_or(Ok(()), |fault| Err(Error::Argument(fault)))
    }

    /// The same for one weight.
    pub(crate) fn of(&self, weight: &TensorInfo) -> Self {
        let dtype = match weight.dtype.name() {
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            _ => Dtype::F32,
        };
        match self {
            Self::FourBit(format, config) => Self::FourBit(format, FourBitConfig { dtype, ..*config }),
            Self::Int8 { .. } => self.clone(),
        }
    }

    /// What is kept of a weight in 16 bits besides.
    pub(crate) fn chosen(&self, model: &Model, weight: &TensorInfo) -> Result<Chosen> {
        match self {
            Self::FourBit(..) => Keep::Nothing.chosen(model, weight),
            Self::Int8 { keep, .. } => keep.chosen(model, weight),
        }
    }

    /// Refuses to keep nothing if something was to be kept: then the names are wrong, or the
    /// activations tame.
    pub(crate) fn check_kept(&self, columns: usize) -> Result<()> {
        match self {
            Self::Int8 { keep: Keep::Captured(captures), threshold } if columns == 0 => Err(Error::Argument(
                format!("{captures}: nothing in it is of a weight of the model and reaches {threshold}"),
            )),
            _ => Ok(()),
        }
    }

    /// The parts of a weight, without their bytes.
    pub(crate) fn headers(&self, shape: [usize; 2]) -> Vec<Part> {
        match self {
            Self::FourBit(format, config) => four_bit::headers(format, &shape, *config),
            Self::Int8 { .. } => uniform::int8_headers(shape),
        }
    }

    /// What transformers wants to know, but for the modules to skip. It writes the choices of four
    /// bits for INT8, too.
    pub(crate) fn config(&self) -> Value {
        let (four_bit, name, config, threshold) = match self {
            Self::FourBit(format, config) => (true, format.name, *config, 6.0),
            Self::Int8 { threshold, .. } => (false, "FP4", FourBitConfig::default(), *threshold),
        };
        // As it reads in decimals, not with the digits that f64 adds.
        let threshold = threshold.to_string().parse::<f64>().unwrap_or(f64::from(threshold));
        json!({
            "quant_method": "bitsandbytes",
            "load_in_4bit": four_bit,
            "load_in_8bit": !four_bit,
            "bnb_4bit_quant_type": name.to_lowercase(),
            "bnb_4bit_use_double_quant": config.double,
            "bnb_4bit_compute_dtype": config.dtype.name(),
            "bnb_4bit_quant_storage": "uint8",
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": [],
            "llm_int8_threshold": threshold,
        })
    }
}
