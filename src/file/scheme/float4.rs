//! Floats of four bits (E2M1), two a byte, the first in the low nibble.
//!
//! MXFP4, a power of two for each 32: `<name>_blocks` U8 `[.., m, k / 32, 16]` with `<name>_scales`
//! (GPT-OSS; `.blocks` and `.scales` as OpenAI has them), or `weight_packed` U8 `[m, k / 2]` with
//! `weight_scale` U8 (compressed-tensors; ModelOpt has `weight` with `weight_scale`). NVFP4, an
//! E4M3 for each 16: `weight_packed` with `weight_scale` F8_E4M3 and `weight_global_scale`, which
//! divides (compressed-tensors), or `weight` U8 with `weight_scale` and `weight_scale_2`, which
//! multiplies (ModelOpt).

use super::view::{Checkpoint, Convention};
use crate::error::{Error, Result};
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::file::scheme::scales::is_weight;
use crate::format;
use crate::format::microscale::mxfp4::Pairs;
use crate::format::microscale::nvfp4_global::{Global, Nvfp4};
use crate::tensor::PackedTensor;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["modelopt", "mxfp4", "nvfp4"], codes: &[], parts: &[], modules };

/// Where a weight comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tool {
    GptOss,
    CompressedTensors,
    ModelOpt,
}

/// A weight, as far as headers tell.
#[derive(Clone, Debug)]
struct Float4 {
    tool: Tool,
    nvfp4: bool,
    shape: (usize, usize),
}

/// Ends of names of codes and scales.
const BLOCKS: [(&str, &str); 2] = [("_blocks", "_scales"), (".blocks", ".scales")];

/// All MXFP4 and NVFP4 weights among the tensors of a checkpoint.
///
/// # Errors
/// [`Error::Malformed`] where parts are missing, or types, shapes and settings disagree.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let mut modules = vec![];
    for tensor in checkpoint.table.list.iter().filter(|t| t.dtype.name() == "U8") {
        modules.extend(module(checkpoint, tensor)?);
    }
    lone_scales(checkpoint)?;
    Ok(modules)
}

/// The weight whose codes these are, if they are.
fn module(checkpoint: &Checkpoint, codes: &TensorInfo) -> Result<Option<TensorInfo>> {
    let found = Found { checkpoint, codes };
    if let Some(name) = codes.name.strip_suffix(".weight_packed") {
        return found.compressed(name).map(Some);
    }
    let scale = checkpoint.beside(&codes.name, "_scale").map(|scale| scale.dtype.name());
    // Scales of floats are those of integers.
    let is_micro = scale.is_none_or(|dtype| ["U8", "F8_E8M0", "F8_E4M3"].contains(&dtype));
    if let Some(global) = checkpoint.beside(&codes.name, "_scale_2").filter(|_| is_micro) {
        return found.modelopt(global).map(Some);
    }
    if scale.is_some_and(|dtype| ["U8", "F8_E8M0"].contains(&dtype)) && is_weight(&codes.name) {
        return found.modelopt_mxfp4().map(Some);
    }
    let ends = BLOCKS.iter().find_map(|(blocks, scales)| Some((codes.name.strip_suffix(blocks)?, scales)));
    match ends {
        Some((name, scales)) => found.gpt_oss(name, scales),
        None => Ok(None),
    }
}

/// Refuses scales whose codes are missing or something else: they would be taken without them.
fn lone_scales(checkpoint: &Checkpoint) -> Result<()> {
    let gpt_oss = if checkpoint.settings.is_of(&["mxfp4"]) { &BLOCKS[..] } else { &[] };
    let compressed = [(".weight", ".weight_scale_2"), (".weight_packed", ".weight_global_scale")];
    for (codes, scales) in compressed.iter().chain(gpt_oss) {
        for (scale, name) in checkpoint.ending(scales) {
            checkpoint.files.typed(checkpoint.scaled_by(scale, name, codes)?, &["U8"])?;
        }
    }
    Ok(())
}

/// Codes, and where to look for what belongs to them.
struct Found<'a> {
    checkpoint: &'a Checkpoint<'a>,
    codes: &'a TensorInfo,
}

impl<'a> Found<'a> {
    fn need(&self, stem: &str, end: &str) -> Result<&'a TensorInfo> {
        self.checkpoint.need(self.codes, stem, end)
    }

    fn gpt_oss(&self, name: &str, scales: &str) -> Result<Option<TensorInfo>> {
        let (files, codes) = (self.checkpoint.files, self.codes);
        let said = self.checkpoint.settings.is_of(&["mxfp4"]);
        if self.checkpoint.table.beside(name, scales).is_none() && !said {
            return Ok(None);
        }
        let scales = self.need(name, scales)?;
        let (outer @ [_, .., groups] | outer @ [groups], 16) =
            codes.shape.split_last().map_or((&[][..], 0), |(l, o)| (o, *l))
        else {
            let problem = format!("blocks of 16 bytes belong here, its shape is {:?}", codes.shape);
            return Err(files.malformed(codes, problem));
        };
        files.typed(scales, &["U8", "F8_E8M0"])?;
        files.expect(scales, outer, "exponents of blocks")?;
        let cols = self.columns(*groups, 32)?;
        let shape = [&outer[..outer.len() - 1], &[cols]].concat();
        self.info(name, Tool::GptOss, false, shape, &[scales]).map(Some)
    }

    fn compressed(&self, name: &str) -> Result<TensorInfo> {
        let files = self.checkpoint.files;
        let scale = self.need(name, ".weight_scale")?;
        files.typed(scale, &["U8", "F8_E8M0", "F8_E4M3"])?;
        let nvfp4 = scale.dtype.name() == "F8_E4M3";
        let found = if nvfp4 { "nvfp4-pack-quantized" } else { "mxfp4-pack-quantized" };
        let said = self.checkpoint.settings.format();
        if let Some(said) = said.filter(|said| ![found, "mixed-precision"].contains(said)) {
            let problem =
                format!("its type {} is that of {found}, the settings say {}", scale.dtype, shown(said));
            return Err(files.malformed(scale, problem));
        }
        let global = self.checkpoint.beside(name, ".weight_global_scale");
        let parts = match (nvfp4, global) {
            (true, _) => vec![scale, self.need(name, ".weight_global_scale")?],
            (false, None) => vec![scale],
            (false, Some(global)) => {
                let problem = format!("it belongs to scales in F8_E4M3, but they are {}", scale.dtype);
                return Err(files.malformed(global, problem));
            }
        };
        let shape = self.shape(scale, if nvfp4 { 16 } else { 32 })?;
        self.info(&format!("{name}.weight"), Tool::CompressedTensors, nvfp4, shape, &parts)
    }

    fn modelopt(&self, global: &'a TensorInfo) -> Result<TensorInfo> {
        let scale = self.need(&self.codes.name, "_scale")?;
        self.checkpoint.files.typed(scale, &["F8_E4M3"])?;
        let shape = self.shape(scale, 16)?;
        self.info(&self.codes.name, Tool::ModelOpt, true, shape, &[scale, global])
    }

    fn modelopt_mxfp4(&self) -> Result<TensorInfo> {
        let scale = self.need(&self.codes.name, "_scale")?;
        let shape = self.shape(scale, 32)?;
        self.info(&self.codes.name, Tool::ModelOpt, false, shape, &[scale])
    }

    /// So many times `each` columns; files of no bytes may claim more than can be counted.
    fn columns(&self, count: u64, each: u64) -> Result<u64> {
        let too_many =
            || format!("{count} times {each} columns overflow 64 bits, its shape is {:?}", self.codes.shape);
        count.checked_mul(each).ok_or_else(|| self.checkpoint.files.malformed(self.codes, too_many()))
    }

    /// The shape of a weight of two codes a byte, with scales for groups of so many.
    fn shape(&self, scale: &TensorInfo, group: u64) -> Result<Vec<u64>> {
        let files = self.checkpoint.files;
        let (bytes, outer) = match self.codes.shape.split_last() {
            Some((bytes, outer)) if !outer.is_empty() => (*bytes, outer),
            _ => {
                let problem = format!("a matrix belongs here, its shape is {:?}", self.codes.shape);
                return Err(files.malformed(self.codes, problem));
            }
        };
        let cols = self.columns(bytes, 2)?;
        if !cols.is_multiple_of(group) {
            let problem = format!("its {cols} columns are no whole number of groups of {group}");
            return Err(files.malformed(self.codes, problem));
        }
        files.expect(scale, &[outer, &[cols / group]].concat(), "scales of groups")?;
        Ok([outer, &[cols]].concat())
    }

    fn info(
        &self,
        name: &str,
        tool: Tool,
        nvfp4: bool,
        shape: Vec<u64>,
        parts: &[&TensorInfo],
    ) -> Result<TensorInfo> {
        let files = self.checkpoint.files;
        if let [_, global] = parts {
            files.typed(global, &["F32"])?;
            files.count(global, 1, "scale")?;
        }
        let (cols, outer) = shape.split_last().map_or((1, &[][..]), |(cols, outer)| (*cols, outer));
        let rows = outer.iter().product::<u64>() as usize;
        let scheme = Float4 { tool, nvfp4, shape: (rows, cols as usize) };
        let format = if nvfp4 { format::NVFP4_GLOBAL } else { format::MXFP4 };
        let parts: Vec<_> = std::iter::once(self.codes).chain(parts.iter().copied()).map(Some).collect();
        Ok(Module::info(self.checkpoint.table, name.into(), format, shape, &parts, Arc::new(scheme)))
    }
}

impl Scheme for Float4 {
    fn description(&self) -> String {
        let tool = match self.tool {
            Tool::GptOss => "MXFP4 of GPT-OSS",
            Tool::CompressedTensors if self.nvfp4 => "NVFP4 of compressed-tensors",
            Tool::CompressedTensors => "MXFP4 of compressed-tensors",
            Tool::ModelOpt if self.nvfp4 => "NVFP4 of ModelOpt",
            Tool::ModelOpt => "MXFP4 of ModelOpt",
        };
        match self.nvfp4 {
            true => format!("{tool}, 4 bits, groups of 16, one global scale"),
            false => format!("{tool}, 4 bits, groups of 32"),
        }
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let [codes, scales, global @ ..] = parts else {
            return Err(Error::Argument(format!("`{}` has lost its parts", shown(name))));
        };
        let (codes, scales) = (files.bytes(codes)?, files.bytes(scales)?);
        let (rows, cols) = self.shape;
        let Some(global) = global.first() else {
            let storage = Pairs { shape: [rows, cols], codes, exponents: scales };
            return PackedTensor::from_storage(name, self.shape, Arc::new(storage));
        };
        let value = files.f32s(global)?.first().copied().unwrap_or(f32::NAN);
        let global = if self.tool == Tool::ModelOpt { Global::Factor(value) } else { Global::Divisor(value) };
        PackedTensor::from_storage(
            name,
            self.shape,
            Arc::new(Nvfp4::new([rows, cols], codes, scales, global)),
        )
    }
}
