//! Layers of GPT-2 and its relatives, `Conv1D` in transformers: `weight` `[k, m]` and
//! `y = x · W + b`. They are listed and multiplied as `[m, k]`, as all others.
//!
//! Shapes do not tell, `c_proj` is square: `model_type` does.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::{Files, Module, Scheme, TensorInfo};
use crate::file::scheme::gptq::transposed;
use crate::tensor::PackedTensor;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention = Convention { methods: &[], codes: &[], parts: &[], modules };

/// Models that have them, as their config.json names them. Those of gpt_bigcode are of the same
/// names and no Conv1D.
pub(crate) const MODELS: [&str; 7] =
    ["clvp", "clvp_decoder", "decision_transformer", "gpt-sw3", "gpt2", "imagegpt", "openai-gpt"];

/// Their modules there.
const LAYERS: [&str; 4] = ["c_attn", "c_fc", "c_proj", "q_attn"];

/// A weight that lies transposed.
#[derive(Debug)]
struct Conv1d;

fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let model = checkpoint.config.and_then(|config| config.model_type());
    if model.is_none_or(|model| !MODELS.contains(&&*model)) {
        return Ok(vec![]);
    }
    let mut modules = vec![];
    for (weight, stem) in checkpoint.named("weight") {
        let layer = stem.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let plain = weight.dtype.format().filter(|format| format.is_plain());
        if let ([k, m], Some(format), true) = (&weight.shape[..], plain, LAYERS.contains(&layer)) {
            let (name, shape) = (weight.name.clone(), vec![*m, *k]);
            modules.push(Module::info(
                checkpoint.table,
                name,
                format,
                shape,
                &[Some(weight)],
                Arc::new(Conv1d),
            ));
        }
    }
    Ok(modules)
}

impl Scheme for Conv1d {
    fn description(&self) -> String {
        "Conv1D, stored [k, m]".into()
    }

    fn is_stored_alone(&self) -> bool {
        true
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let [k, m] = files.matrix(parts[0])?.map(|dim| dim as usize);
        let bytes = files.bytes(parts[0])?;
        let bytes = match parts[0].dtype.block_bytes() {
            1 => transposed(&bytes, k, m),
            2 => transposed(bytes.as_chunks::<2>().0, k, m).into_flattened(),
            4 => transposed(bytes.as_chunks::<4>().0, k, m).into_flattened(),
            _ => transposed(bytes.as_chunks::<8>().0, k, m).into_flattened(),
        };
        match parts[0].dtype.format() {
            Some(format) => PackedTensor::new(name, format, m, k, bytes),
            None => Err(files.malformed(parts[0], "plain numbers belong here")),
        }
    }
}
