//! Every convention by which several tensors of a checkpoint are one weight.

use super::config::Config;
use super::scales::module_of;
use super::settings::QuantizationConfig;
use super::view::{Checkpoint, Convention};
use super::{
    autoround, awq, awq_gemv_fast, bitsandbytes, bitsandbytes_int8, compressed_tensors, conv1d, float4, fp8,
    gguf_scale, gptq, hqq, mlx, modelopt_int4, scales, torchao,
};
use crate::error::Result;
use crate::file::container::tensors::{Files, TensorInfo, TensorTable};
use crate::file::names::{self, shown};
use std::collections::HashSet;

/// Every convention, one a line.
const CONVENTIONS: &[&Convention] = &[
    &autoround::CONVENTION,
    &awq::CONVENTION,
    &awq_gemv_fast::CONVENTION,
    &bitsandbytes::CONVENTION,
    &bitsandbytes_int8::CONVENTION,
    &compressed_tensors::CONVENTION,
    &conv1d::CONVENTION,
    &float4::CONVENTION,
    &fp8::CONVENTION,
    &gptq::CONVENTION,
    &hqq::CONVENTION,
    &mlx::CONVENTION,
    &modelopt_int4::CONVENTION,
    &torchao::CONVENTION,
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
pub(crate) fn gather(
    table: TensorTable,
    files: &Files,
    settings: &QuantizationConfig,
    config: Option<&Config>,
) -> Result<Gathered> {
    let modules = modules(&table, files, settings, config).inspect_err(|_| files.want_alike(&table.list))?;
    listed_with(table, modules, files)
}

/// The weights of several tensors.
fn modules(
    table: &TensorTable,
    files: &Files,
    settings: &QuantizationConfig,
    config: Option<&Config>,
) -> Result<Vec<TensorInfo>> {
    let checkpoint = Checkpoint::new(table, files, settings, config);
    let mut modules = vec![];
    match &settings.unsupported {
        Some(scheme) => modules.extend(codes_of(&checkpoint, scheme)),
        None => {
            for convention in CONVENTIONS {
                modules.extend((convention.modules)(&checkpoint)?);
            }
            let used = uses(&modules, table, files)?;
            modules.extend(unknown(&checkpoint, &used)?);
            refuse_scaled_inputs(&checkpoint, &mut modules, &used);
        }
    }
    Ok(modules)
}

/// The tensors of a GGUF, those that belong together as one.
pub(crate) fn gather_gguf(table: TensorTable, files: &Files) -> Result<Gathered> {
    let modules = gguf_scale::modules(&table);
    listed_with(table, modules, files)
}

fn listed_with(table: TensorTable, modules: Vec<TensorInfo>, files: &Files) -> Result<Gathered> {
    let uses = uses(&modules, &table, files)?;
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
fn uses(modules: &[TensorInfo], table: &TensorTable, files: &Files) -> Result<Vec<Use>> {
    let list = &table.list;
    let mut uses = vec![Use::None; list.len()];
    for module in modules.iter().filter_map(|m| m.module.as_ref()) {
        for (i, position) in module.positions().iter().map(|p| *p as usize).enumerate() {
            if uses[position] != Use::None {
                return Err(files.malformed(&list[position], "it is part of two weights"));
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

/// The tensors that may be codes of a scheme that is not supported: what is no vector, and no
/// matrix of plain floats.
fn codes_of(checkpoint: &Checkpoint, scheme: &str) -> Vec<TensorInfo> {
    let is_plain = |t: &TensorInfo| ["F64", "F32", "F16", "BF16"].contains(&t.dtype.name());
    let codes = checkpoint.table.list.iter().filter(|t| t.shape.len() > 1 && !is_plain(t));
    codes.map(|t| checkpoint.unsupported(weight_of(checkpoint, t), &[Some(t)], scheme.into())).collect()
}

/// The name of the weight that codes stand for: that of their module where they have one of a
/// convention's names, so that whoever asks for the weight finds it.
fn weight_of(checkpoint: &Checkpoint, tensor: &TensorInfo) -> String {
    let stem = codes().find_map(|codes| tensor.name.strip_suffix(codes));
    let stem = stem.filter(|stem| stem.is_empty() || stem.ends_with('.'));
    match stem.filter(|stem| checkpoint.table.beside(stem, "weight").is_none()) {
        Some(stem) => format!("{stem}weight"),
        None => tensor.name.clone(),
    }
}

/// Makes weights unsupported whose activations are to be multiplied first, by a scale that their
/// convention has not taken.
fn refuse_scaled_inputs(checkpoint: &Checkpoint, modules: &mut [TensorInfo], used: &[Use]) {
    let scales = checkpoint.named("pre_quant_scale");
    let loose = scales.filter(|(scale, _)| used[checkpoint.table.position(scale) as usize] == Use::None);
    let loose: HashSet<&str> = loose.map(|(_, stem)| stem).collect();
    for module in modules.iter_mut() {
        let has_it = module.name.strip_suffix("weight").is_some_and(|stem| loose.contains(stem));
        if let (true, Some(parts)) = (has_it && module.dtype.format().is_some(), &module.module) {
            let parts = parts.parts(&checkpoint.table.list);
            let scheme = format!("{} with `pre_quant_scale`, which multiplies its activations", module.dtype);
            let parts: Vec<_> = parts.into_iter().map(Some).collect();
            *module = checkpoint.unsupported(module.name.clone(), &parts, scheme);
        }
    }
}

/// Codes of schemes that no convention knows, which would pass for matrices of integers: weights
/// that have scales of some other name, and tensors that are named as codes are. `used` are the
/// tensors of weights.
fn unknown(checkpoint: &Checkpoint, used: &[Use]) -> Result<Vec<TensorInfo>> {
    let list =
        || checkpoint.table.list.iter().zip(used).filter(|(_, used)| **used == Use::None).map(|(t, _)| t);
    let mut found = scales::unclaimed(checkpoint, list())?;
    let codes: Vec<&str> = codes().filter(|name| checkpoint.occurs(name)).collect();
    let settings = checkpoint.settings;
    let (method, format) = (settings.method(), settings.format().or(settings.version()));
    for tensor in list().filter(|t| codes.contains(&names::last(&t.name))) {
        let scheme = format!(
            "{} codes `{}` of no known scheme (settings: {}, `{}`)",
            tensor.dtype,
            shown(&tensor.name),
            shown(method.unwrap_or("no quant_method")),
            shown(format.unwrap_or_default())
        );
        found.push(checkpoint.unsupported(weight_of(checkpoint, tensor), &[Some(tensor)], scheme));
    }
    Ok(found)
}
