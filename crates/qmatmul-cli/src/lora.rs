//! The adapters of `--lora`.

use super::Common;
use qmatmul::error::{Error, Result};
use qmatmul::file::lora::Adapter;
use qmatmul::file::{Model, TensorInfo};
use qmatmul::linear::Linear;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Opens the folders of all `--lora`.
pub fn open(common: &Common, folders: &[PathBuf]) -> Result<Vec<Adapter>> {
    folders.iter().map(|f| Adapter::open(f, &common.open_options())).collect()
}

/// The layer with what `adapter` adds to it.
///
/// # Errors
/// [`Error::NotFound`](qmatmul::Error::NotFound) if it has no such module.
pub fn add(linear: Linear, adapter: &Adapter, info: &TensorInfo) -> Result<Linear> {
    linear.with_adapter(adapter.low_rank(adapter.find(&info.name)?)?)
}

/// The tensors of `model` that an adapter adds to, each once, in the order of their names.
///
/// # Errors
/// [`Error::NotFound`] if the model lacks one.
pub fn tensors<'a>(model: &'a Model, adapters: &[Adapter]) -> Result<Vec<&'a TensorInfo>> {
    let modules = adapters.iter().flat_map(|a| a.modules().iter().map(move |m| (a, m)));
    let found = modules.map(|(adapter, module)| {
        let info = model.find(&module.name).map_err(|e| match e {
            Error::NotFound { file, what, name, hint } => {
                let hint = format!("{hint}; adapter {} has a module of this name", adapter.path().display());
                Error::NotFound { file, what, name, hint }
            }
            other => other,
        })?;
        Ok((&*info.name, info))
    });
    Ok(found.collect::<Result<BTreeMap<_, _>>>()?.into_values().collect())
}
