//! Every convention by which several tensors of a checkpoint are one weight.

use super::scales::module_of;
use super::settings::QuantizationConfig;
use super::view::{Checkpoint, Convention};
use super::{awq, bitsandbytes, bitsandbytes_int8, compressed_tensors, float4, fp8, gptq, hqq, scales};
use crate::error::Result;
use crate::file::container::tensors::{Files, TensorInfo, TensorTable};
use crate::file::names::{self, shown};

/// Every convention, one a line.
const CONVENTIONS: &[&Convention] = &[
    &awq::CONVENTION,
    &bitsandbytes::CONVENTION,
    &bitsandbytes_int8::CONVENTION,
    &compressed_tensors::CONVENTION,
    &float4::CONVENTION,
    &fp8::CONVENTION,
    &gptq::CONVENTION,
    &hqq::CONVENTION,
];

/// Names of tensors that lie in modules of several conventions.
const SHARED_PARTS: [&str; 2] = ["bias", "pre_quant_scale"];

/// Tools whose checkpoints are known, as `quant_method` names them, sorted.
pub(crate) fn methods() -> Vec<&'static str> {
    let mut methods: Vec<_> = CONVENTIONS.iter().flat_map(|c| c.methods).copied().collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

/// Names of codes in their modules, which make no sense as tensors of their own.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    CONVENTIONS.iter().flat_map(|c| c.codes).copied()
}

/// The module that a tensor of this name is a part of that is neither codes nor scales.
pub(crate) fn module_of_part(name: &str) -> Option<&str> {
    let last = names::last(name);
    let is_part = SHARED_PARTS.contains(&last) || CONVENTIONS.iter().any(|c| c.parts.contains(&last));
    is_part.then(|| module_of(name))
}

/// Weights, and the tensors that they are made of.
pub(crate) struct Gathered {
    /// What was listed, those that belong together as one.
    pub tensors: TensorTable,
    /// What parts of modules are positions of; what is no part has lost its name and shape.
    pub stored: Vec<TensorInfo>,
}

/// The tensors of `table`, those that belong together as one.
pub(crate) fn gather(table: TensorTable, files: &Files, settings: &QuantizationConfig) -> Result<Gathered> {
    let checkpoint = Checkpoint::new(&table, files, settings);
    let mut modules = vec![];
    for convention in CONVENTIONS {
        modules.extend((convention.modules)(&checkpoint)?);
    }
    let uses = uses(&modules, &checkpoint)?;
    refuse_unknown(&checkpoint, &uses)?;
    if modules.is_empty() {
        return Ok(Gathered { tensors: table, stored: vec![] });
    }
    let mut stored = table.list;
    let tensors = TensorTable::new(listed(modules, &mut stored, &uses))
        .map_err(|(i, list)| files.malformed(&list[i], "a tensor of this name was listed before"))?;
    Ok(Gathered { tensors, stored })
}

/// What a tensor is to the weights.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    None,
    Codes,
    Part,
}

/// By position. Refuses a tensor that two weights claim: one of them would be made of the other's
/// bytes.
fn uses(modules: &[TensorInfo], checkpoint: &Checkpoint) -> Result<Vec<Use>> {
    let list = &checkpoint.table.list;
    let mut uses = vec![Use::None; list.len()];
    for module in modules.iter().filter_map(|m| m.module.as_ref()) {
        for (i, position) in module.positions().iter().map(|p| *p as usize).enumerate() {
            if uses[position] != Use::None {
                return Err(checkpoint.files.malformed(&list[position], "it is part of two weights"));
            }
            uses[position] = if i == 0 { Use::Codes } else { Use::Part };
        }
    }
    Ok(uses)
}

/// The tensors that are no parts, and the weights, each of which stands where its codes stood.
fn listed(mut modules: Vec<TensorInfo>, stored: &mut [TensorInfo], uses: &[Use]) -> Vec<TensorInfo> {
    let codes = |m: &TensorInfo| m.module.as_ref().and_then(|m| m.positions().first().copied());
    modules.sort_by_key(codes);
    let mut list = Vec::with_capacity(uses.iter().filter(|u| **u != Use::Part).count());
    let mut modules = modules.into_iter();
    for (tensor, used) in stored.iter_mut().zip(uses) {
        match used {
            Use::Part => {}
            Use::Codes => list.extend(modules.next()),
            Use::None => {
                let (name, shape) = (std::mem::take(&mut tensor.name), std::mem::take(&mut tensor.shape));
                list.push(TensorInfo { name, shape, ..tensor.clone() });
            }
        }
    }
    list
}

/// Refuses a scheme that no convention knows: its codes would pass for matrices of integers.
fn refuse_unknown(checkpoint: &Checkpoint, uses: &[Use]) -> Result<()> {
    let list =
        || checkpoint.table.list.iter().zip(uses).filter(|(_, used)| **used == Use::None).map(|(t, _)| t);
    scales::refuse_unclaimed(checkpoint, list())?;
    let codes: Vec<&str> = codes().filter(|name| checkpoint.occurs(name)).collect();
    match list().find(|t| codes.contains(&names::last(&t.name))) {
        None => Ok(()),
        Some(tensor) => {
            let settings = checkpoint.settings;
            let format = settings.format().or(settings.version()).unwrap_or_default();
            let method = settings.method().unwrap_or("no quant_method");
            let problem = format!(
                "no scheme is known for these {} codes (settings: {}, `{}`)",
                tensor.dtype,
                shown(method),
                shown(format)
            );
            Err(checkpoint.files.malformed(tensor, problem))
        }
    }
}
