//! Checkpoints of AutoRound in its own packings, which are those of GPTQ and AWQ:
//! `auto_round:auto_gptq` stores zeros less one, `auto_round` and `auto_round:gptqmodel` as they
//! are, `auto_round:auto_awq` is AWQ's gemm. Single modules may have settings of their own in
//! `extra_config`, where what is not said is that of the file.

use super::awq;
use super::gptq::{self, Parts, Sizes, Told, Zeros};
use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::names::shown;
use serde::Deserialize;
use std::collections::HashMap;

const METHOD: &str = "auto-round";

pub(crate) const CONVENTION: Convention =
    Convention { methods: &[METHOD], codes: &["qweight"], parts: &["g_idx", "qzeros"], modules };

/// A config.json, as far as it tells this convention.
#[derive(Default, Deserialize)]
struct ConfigJson {
    quantization_config: Option<Settings>,
}

/// What is said of one module.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Way {
    bits: Option<i64>,
    group_size: Option<i64>,
    sym: Option<bool>,
    data_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    bits: Option<i64>,
    group_size: Option<i64>,
    sym: Option<bool>,
    data_type: Option<String>,
    packing_format: Option<String>,
    extra_config: HashMap<String, Way>,
}

fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let Some(config) = checkpoint.config.filter(|_| checkpoint.settings.is_of(&[METHOD])) else {
        return Ok(vec![]);
    };
    let settings = config.parse::<ConfigJson>()?.quantization_config.unwrap_or_default();
    let codes = checkpoint.named("qweight");
    codes.map(|(codes, stem)| module(checkpoint, &settings, codes, stem)).collect()
}

fn module(
    checkpoint: &Checkpoint,
    settings: &Settings,
    codes: &TensorInfo,
    stem: &str,
) -> Result<TensorInfo> {
    let parts = Parts::find(checkpoint, codes, stem)?;
    let unsupported = |what: String| {
        let scheme = format!("AutoRound with {what}");
        Ok(checkpoint.unsupported(format!("{stem}weight"), &parts.all(), scheme))
    };
    let own = settings.extra_config.get(stem.strip_suffix('.').unwrap_or(stem));
    let bits = own.and_then(|own| own.bits).or(settings.bits);
    let group_size = own.and_then(|own| own.group_size).or(settings.group_size);
    let sym = own.and_then(|own| own.sym).or(settings.sym);
    let data_type = own.and_then(|own| own.data_type.as_ref()).or(settings.data_type.as_ref());
    if let Some(other) = data_type.filter(|data_type| *data_type != "int") {
        return unsupported(format!("data_type `{}`", shown(other)));
    }
    let zeros = match settings.packing_format.as_deref() {
        Some("auto_round:auto_gptq") => Zeros::LessOne,
        Some("auto_round" | "auto_round:gptqmodel") => Zeros::Plain,
        Some("auto_round:auto_awq") => {
            let told = awq::Told {
                bits,
                packing: Some(awq::Packing::Gemm),
                group_size,
                symmetric: false,
                tool: "AutoRound, AWQ",
            };
            return awq::module(checkpoint, &parts, stem, &told);
        }
        other => return unsupported(format!("packing_format `{}`", shown(other.unwrap_or_default()))),
    };
    let told = Told {
        bits,
        sizes: Sizes { said: group_size.into_iter().collect(), others: false },
        symmetric: sym == Some(true),
        is_ordered: false,
        packing: gptq::Packing::Stream,
        zeros: Some(zeros),
        tool: "AutoRound",
    };
    parts.module(checkpoint, stem, &told)
}
