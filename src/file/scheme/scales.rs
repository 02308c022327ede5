//! Scales that no convention takes, and parts that an index leaves out: a weight without them would
//! be another.

use super::view::Checkpoint;
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::names::{self, shown};
use std::collections::{HashMap, HashSet};

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

/// Those of these weights that have scales of any name beside them, which no scheme takes.
pub(crate) fn unscaled(checkpoint: &Checkpoint, weights: &[&TensorInfo]) -> Vec<TensorInfo> {
    if weights.is_empty() {
        return vec![];
    }
    let scales = checkpoint.table.list.iter().filter_map(|t| Some((module_of_scale(&t.name)?, t)));
    let by_module: HashMap<&str, &TensorInfo> = scales.collect();
    let scale = |weight: &TensorInfo| {
        let own = || checkpoint.table.get(&format!("{}_scale", weight.name));
        let named = is_weight(&weight.name) || weight.name.ends_with("._data");
        by_module.get(module_of(&weight.name)).copied().filter(|_| named).or_else(own)
    };
    let unsupported = |weight: &&TensorInfo| {
        let method = checkpoint.settings.method().unwrap_or("no quant_method");
        let scheme = format!(
            "{} codes with `{}`, scales of no known scheme (settings: {})",
            weight.dtype,
            shown(&scale(weight)?.name),
            shown(method)
        );
        Some(checkpoint.unsupported(weight.name.clone(), &[Some(weight)], scheme))
    };
    weights.iter().filter_map(unsupported).collect()
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

/// Integers that would be multiplied as they are although they have scales, and weights whose
/// activations are to be scaled first. `unclaimed` are the tensors that no convention took.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) for codes of LLM.int8 whose scales are missing.
pub(crate) fn unclaimed<'a>(
    checkpoint: &Checkpoint,
    unclaimed: impl Iterator<Item = &'a TensorInfo> + Clone,
) -> Result<Vec<TensorInfo>> {
    let bare = unclaimed.clone().filter(|t| t.dtype.name() == "I8" && t.shape.len() > 1);
    let bare: Vec<&TensorInfo> = bare.collect();
    let mut found = unscaled(checkpoint, &bare);
    let names: HashSet<&str> = found.iter().map(|t| &*t.name).collect();
    let rest: Vec<_> = bare.into_iter().filter(|t| !names.contains(&*t.name)).collect();
    refuse_int8(checkpoint, &rest)?;
    drop(names);
    let smooth: HashSet<&str> = checkpoint.named("pre_quant_scale").map(|(_, module)| module).collect();
    for weight in unclaimed {
        let module = weight.name.strip_suffix("weight");
        if module.is_some_and(|module| smooth.contains(module)) && weight.shape.len() > 1 {
            let scheme = "a weight with `pre_quant_scale`, which multiplies its activations first".into();
            found.push(checkpoint.unsupported(weight.name.clone(), &[Some(weight)], scheme));
        }
    }
    Ok(found)
}
