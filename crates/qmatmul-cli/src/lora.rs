//! The adapters of `--lora`.

use super::options::Common;
use qmatmul::error::{Result, shown};
use qmatmul::file::lora::{Adapter, Fit};
use qmatmul::file::{Model, TensorInfo};
use qmatmul::linear::Linear;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Opens the folders and files of all `--lora`.
pub fn open(common: &Common, paths: &[PathBuf]) -> Result<Vec<Adapter>> {
    paths.iter().map(|path| Adapter::open(path, &common.open_options())).collect()
}

/// The adapters on a model; says what of them is not used.
///
/// # Errors
/// [`Error::Argument`](qmatmul::Error::Argument) if one is for another model.
pub fn on<'a>(common: &Common, adapters: &'a [Adapter], model: &'a Model) -> Result<Vec<Fit<'a>>> {
    let on = |adapter: &'a Adapter| {
        let fit = adapter.on(model)?;
        for left in fit.left_out() {
            let (path, name) = (adapter.path().display(), shown(&left.name));
            common.say(&format!("adapter {path}: `{name}` is left out, {}", left.why));
        }
        Ok(fit)
    };
    adapters.iter().map(on).collect()
}

/// The layer with what an adapter adds to it.
///
/// # Errors
/// [`Error::NotFound`](qmatmul::Error::NotFound) if it has no such module.
pub fn add(linear: Linear, adapter: &Fit, info: &TensorInfo) -> Result<Linear> {
    adapter.find(info)?.into_iter().try_fold(linear, Linear::with_adapter)
}

/// The tensors of the model that adapters add to, each once, in the order of their names.
///
/// # Errors
/// [`Error::NotFound`](qmatmul::Error::NotFound) if the model lacks one.
pub fn tensors<'a>(adapters: &[Fit<'a>]) -> Result<Vec<&'a TensorInfo>> {
    let mut all = BTreeMap::new();
    for adapter in adapters {
        all.extend(adapter.tensors()?.into_iter().map(|info| (&*info.name, info)));
    }
    Ok(all.into_values().collect())
}
