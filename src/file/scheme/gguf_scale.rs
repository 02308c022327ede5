//! `<module>.scale` of GGUF: what the product of `<module>.weight` is multiplied by, an F32, or one
//! for each expert of a stack. llama.cpp's converter writes it beside weights of NVFP4 and BitNet.
//! `<module>.input_scale` belongs to activations of four bits and changes no product.

use crate::error::Result;
use crate::file::container::tensors::{Files, Module, Scheme, TensorInfo, TensorTable};
use crate::file::names::shown;
use crate::format::factored::Factored;
use crate::tensor::PackedTensor;
use std::sync::Arc;

/// A weight of blocks with its scales.
#[derive(Debug)]
struct Scaled {
    /// As many as there are scales.
    matrices: u64,
}

/// The weights that have scales, by their names, and those whose scales are of another number.
pub(crate) fn modules(table: &TensorTable) -> Vec<TensorInfo> {
    let scales = table.list.iter().filter_map(|scale| Some((scale, scale.name.strip_suffix("scale")?)));
    let weight = |(scale, stem): (&TensorInfo, &str)| {
        let weight = stem.ends_with('.').then(|| table.beside(stem, "weight"))??;
        let format = weight.dtype.format().filter(|_| weight.shape.len() > 1)?;
        let matrices: u64 = weight.shape[..weight.shape.len() - 2].iter().product();
        let (parts, shape) = ([Some(weight), Some(scale)], weight.shape.clone());
        if ![1, matrices].contains(&scale.elements()) || scale.dtype.name() != "F32" {
            let scheme = format!(
                "{} with {} {} numbers in `{}`, where one or {matrices} F32 belong",
                weight.dtype,
                scale.elements(),
                scale.dtype,
                shown(&scale.name)
            );
            return Some(Module::unsupported(table, weight.name.clone(), shape, &parts, scheme));
        }
        let scheme = Arc::new(Scaled { matrices: scale.elements() });
        Some(Module::info(table, weight.name.clone(), format, shape, &parts, scheme))
    };
    scales.filter_map(weight).collect()
}

impl Scheme for Scaled {
    fn description(&self) -> String {
        match self.matrices {
            1 => "times `.scale`".into(),
            _ => "times `.scale` of each expert".into(),
        }
    }

    fn is_stored_alone(&self) -> bool {
        true
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let (weight, factors) = (parts[0], files.f32s(parts[1])?);
        let Some(format) = weight.dtype.format() else {
            return Err(files.malformed(weight, "it is of no format"));
        };
        let (rows, cols) = (weight.rows() as usize, weight.cols() as usize);
        let packed = PackedTensor::new(name, format, rows, cols, files.bytes(weight)?)?;
        packed.with_storage(|inner| Arc::new(Factored::new(inner, rows, factors, ".scale")))
    }
}
