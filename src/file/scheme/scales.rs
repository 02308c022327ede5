//! Scales that no convention takes, and parts that an index leaves out: a weight without them would
//! be another.

use super::view::Checkpoint;
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::names::{self, shown};
use std::collections::HashMap;

/// What the names of other scales have: those of activations and outputs.
const OTHERS: [&str; 6] = ["input", "act_", "activation", "output", "kv_", "prob"];
/// Their whole names: those of queries, keys and values.
const CACHES: [&str; 3] = ["q_scale", "k_scale", "v_scale"];

/// The module whose weight a tensor of this name may scale: `a` of `a.weight_scale`, `a.scale`,
/// `a.weight.scales` and `a.SCB`.
pub(crate) fn module_of_scale(name: &str) -> Option<&str> {
    let last = names::last(name);
    if last == "SCB" {
        return Some(module_of(name));
    }
    if !last.as_bytes().windows(4).any(|four| four.eq_ignore_ascii_case(b"scal")) {
        return None;
    }
    let last = last.to_ascii_lowercase();
    let other = CACHES.contains(&&*last) || OTHERS.iter().any(|other| last.contains(other));
    (!other).then(|| module_of(name))
}

/// The module that a tensor belongs to: `a` of `a.bias` and `a.weight._data`.
pub(crate) fn module_of(name: &str) -> &str {
    let (module, _) = name.rsplit_once('.').unwrap_or_default();
    if module == "weight" { "" } else { module.strip_suffix(".weight").unwrap_or(module) }
}

/// Refuses the first of these weights that has scales of any name beside it.
pub(crate) fn refuse_unscaled(checkpoint: &Checkpoint, weights: &[&TensorInfo]) -> Result<()> {
    if weights.is_empty() {
        return Ok(());
    }
    let scales = checkpoint.table.list.iter().filter_map(|t| Some((module_of_scale(&t.name)?, t)));
    let by_module: HashMap<&str, &TensorInfo> = scales.collect();
    for weight in weights {
        let own = || checkpoint.table.get(&format!("{}_scale", weight.name));
        let named = is_weight(&weight.name) || weight.name.ends_with("._data");
        let scale = by_module.get(module_of(&weight.name)).copied().filter(|_| named).or_else(own);
        if let Some(scale) = scale {
            let method = checkpoint.settings.method().unwrap_or("no quant_method");
            let problem = format!(
                "`{}` lies beside it, but no scheme is known for such scales of {} codes (settings: {method})",
                shown(&scale.name),
                weight.dtype
            );
            return Err(checkpoint.files.malformed(weight, problem));
        }
    }
    Ok(())
}

/// Refuses the first of these weights that is said to be one of LLM.int8, whose convention would
/// have found its scales.
fn refuse_int8(checkpoint: &Checkpoint, weights: &[&TensorInfo]) -> Result<()> {
    let method = checkpoint.settings.is_of(&["bitsandbytes"]);
    let is_int8 =
        |t: &TensorInfo| is_weight(&t.name) && (method || checkpoint.beside(&t.name, "_format").is_some());
    match weights.iter().find(|weight| is_int8(weight)) {
        None => Ok(()),
        Some(weight) => {
            let module = weight.name.strip_suffix("weight").unwrap_or_default();
            let problem = format!(
                "the checkpoint lacks `{}`, the scales of its rows, without which it is bare {} codes",
                shown(&format!("{module}SCB")),
                weight.dtype
            );
            Err(checkpoint.files.malformed(weight, problem))
        }
    }
}

/// True for `weight` and `a.weight`.
pub(crate) fn is_weight(name: &str) -> bool {
    name == "weight" || name.ends_with(".weight")
}

/// Refuses integers that would be multiplied as they are although they have scales, and scales of
/// activations of single columns. `unclaimed` are the tensors that no convention took.
pub(crate) fn refuse_unclaimed<'a>(
    checkpoint: &Checkpoint,
    unclaimed: impl Iterator<Item = &'a TensorInfo>,
) -> Result<()> {
    let bare: Vec<&TensorInfo> = unclaimed.filter(|t| t.dtype.name() == "I8" && t.shape.len() > 1).collect();
    refuse_unscaled(checkpoint, &bare)?;
    refuse_int8(checkpoint, &bare)?;
    let mut smooth = checkpoint.named("pre_quant_scale");
    match smooth.find(|(_, module)| checkpoint.beside(module, "weight").is_some()) {
        None => Ok(()),
        Some((scale, _)) => {
            let problem =
                "the activations of its module are to be multiplied by it first, which is not supported";
            Err(checkpoint.files.malformed(scale, problem))
        }
    }
}
