//! Checkpoints of bitsandbytes: `weight` with `weight.absmax`, `weight.quant_map`,
//! `weight.nested_absmax`, `weight.nested_quant_map` and `weight.quant_state.bitsandbytes__nf4`, a
//! JSON text that alone knows the shape.

use super::view::{Checkpoint, Convention};
use crate::error::{Error, Result};
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::container::tensors::{TensorInfo, TensorTable};
use crate::file::names::shown;
use crate::format::four_bit::{FourBit, Nested};
use crate::format::recipe::{Dtype, FourBitConfig};
use crate::format::{Format, bnb4, by_name};
use crate::tensor::PackedTensor;
use serde::Deserialize;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["bitsandbytes"], codes: &[], parts: &["absmax", "quant_map"], modules };

/// What stands between the weight's name and its type in the name of the text.
const STATE: &str = ".quant_state.bitsandbytes__";
/// The longest such text; bitsandbytes writes 80 to 180 bytes.
const MAX_STATE: u64 = 1 << 12;
/// Tensors that make no sense without such a text.
const COMPANIONS: [&str; 4] = [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];

/// A weight of NF4 or FP4, as far as headers and its text tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FourBitModule {
    format: &'static Format,
    shape: Vec<usize>,
    config: FourBitConfig,
    /// Block and offset of scales that are quantized.
    nested: Option<(usize, f32)>,
}

/// The text, as bitsandbytes' `QuantState.as_dict` packs it.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

/// All weights of four bits among the tensors of a checkpoint.
///
/// # Errors
/// [`Error::Malformed`] where a text is no such JSON, a part is missing, or lengths disagree.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let mut modules = vec![];
    let (_, tool) = STATE.rsplit_once('.').unwrap_or_default();
    let list = if checkpoint.last_begins(tool) { &checkpoint.table.list[..] } else { &[] };
    for tensor in list {
        if let Some((weight, quant_type)) = state_of(&tensor.name) {
            let parts = Parts::find(checkpoint, tensor, weight)?;
            modules.push(parts.module(quant_type)?);
        }
    }
    orphans(checkpoint, &modules)?;
    Ok(modules)
}

/// The weight whose text this name says it is, and the type; looked for at the end, where it is.
fn state_of(name: &str) -> Option<(&str, &str)> {
    let (head, tail) = name.rsplit_once('.')?;
    let (state, tool) = STATE.rsplit_once('.')?;
    Some((head.strip_suffix(state)?, tail.strip_prefix(tool)?))
}

/// Refuses parts of a weight whose text is missing: its codes would pass for a matrix of bytes.
fn orphans(checkpoint: &Checkpoint, modules: &[TensorInfo]) -> Result<()> {
    let known: std::collections::HashSet<&str> = modules.iter().map(|m| m.name.as_str()).collect();
    let orphan = |w: &&str| !known.contains(w) && checkpoint.table.get(w).is_some();
    let parts = COMPANIONS.iter().flat_map(|end| checkpoint.ending(end));
    let orphans = parts.filter(|(_, weight)| orphan(weight));
    match orphans.min_by_key(|(part, _)| checkpoint.table.position(part)) {
        None => Ok(()),
        Some((part, weight)) => {
            let wanted = format!("`{}{STATE}nf4` or `…fp4`", shown(weight));
            let problem = format!("the checkpoint lacks {wanted}, which says its shape");
            Err(checkpoint.files.malformed(part, problem))
        }
    }
}

/// The tensors of one weight.
struct Parts<'a> {
    table: &'a TensorTable,
    files: &'a Files<'a>,
    state: &'a TensorInfo,
    codes: &'a TensorInfo,
    absmax: &'a TensorInfo,
    book: &'a TensorInfo,
    nested_absmax: Option<&'a TensorInfo>,
    nested_map: Option<&'a TensorInfo>,
}

impl<'a> Parts<'a> {
    fn find(checkpoint: &Checkpoint<'a>, state: &'a TensorInfo, weight: &str) -> Result<Self> {
        let (table, files) = (checkpoint.table, checkpoint.files);
        let need = |suffix: &str| checkpoint.need(state, weight, suffix);
        Ok(Self {
            table,
            files,
            state,
            codes: need("")?,
            absmax: need(".absmax")?,
            book: need(".quant_map")?,
            nested_absmax: checkpoint.beside(weight, ".nested_absmax"),
            nested_map: checkpoint.beside(weight, ".nested_quant_map"),
        })
    }

    /// The weight as one tensor, all lengths checked.
    fn module(&self, quant_type: &str) -> Result<TensorInfo> {
        let state = self.read_state()?;
        let format =
            by_name(quant_type).filter(|f| state.quant_type == quant_type && bnb4::table(f).is_some());
        let format = format.ok_or_else(|| {
            let problem = format!("it names the type `{}`; nf4 and fp4 are known", shown(&state.quant_type));
            self.files.malformed(self.state, problem)
        })?;
        let config = self.config(&state)?;
        let elements = self.elements(&state)?;
        self.check_codes(elements)?;
        let scales = elements.div_ceil(config.block);
        self.check_scales(scales, config)?;
        let nested = self.nested(&state, scales)?;
        self.files.typed(self.book, &["F32"])?;
        self.files.count(self.book, 16, "entries of its book")?;
        let shape = state.shape.iter().map(|dim| *dim as u64).collect();
        let parts = [
            Some(self.codes),
            Some(self.absmax),
            Some(self.book),
            self.nested_absmax,
            self.nested_map,
            Some(self.state),
        ];
        let scheme = FourBitModule { format, shape: state.shape, config, nested };
        Ok(Module::info(self.table, self.codes.name.clone(), format, shape, &parts, Arc::new(scheme)))
    }

    fn read_state(&self) -> Result<State> {
        if self.state.bytes > MAX_STATE {
            let problem = format!("its text of {} bytes is longer than {MAX_STATE}", self.state.bytes);
            return Err(self.files.malformed(self.state, problem));
        }
        let bytes = self.files.bytes(self.state)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let problem = format!("it is no JSON of bitsandbytes: {}", shown(&e.to_string()));
            self.files.malformed(self.state, problem)
        })
    }

    fn config(&self, state: &State) -> Result<FourBitConfig> {
        let dtype = Dtype::from_name(&state.dtype).ok_or_else(|| {
            let problem =
                format!("its dtype `{}` is none of float16, bfloat16, float32", shown(&state.dtype));
            self.files.malformed(self.state, problem)
        })?;
        let double = state.nested_blocksize.is_some() || self.nested_absmax.is_some();
        let config = FourBitConfig { block: state.blocksize, double, dtype };
        match config.fault() {
            Some(fault) => Err(self.files.malformed(self.state, format!("its {fault}"))),
            None => Ok(config),
        }
    }

    /// Weights of the shape, which every index must reach.
    fn elements(&self, state: &State) -> Result<usize> {
        let (dims, shape) = (1..=8, &state.shape);
        let product = shape.iter().try_fold(1usize, |product, dim| product.checked_mul((*dim).max(1)));
        let empty = shape.contains(&0);
        // Codes take half a byte, so a true shape is at most twice as large as the file. One of
        // nothing has but to be counted.
        let most = if empty { u64::from(u32::MAX) } else { 2 * self.codes.bytes };
        match product.filter(|p| *p as u64 <= most && dims.contains(&shape.len())) {
            Some(product) => Ok(if empty { 0 } else { product }),
            None => {
                let bytes = self.codes.bytes;
                let problem = format!("its shape {shape:?} does not fit the {bytes} bytes of codes");
                Err(self.files.malformed(self.state, problem))
            }
        }
    }

    /// Two codes a byte; tensors of any type may hold those bytes.
    fn check_codes(&self, elements: usize) -> Result<()> {
        let (wanted, got) = (elements.div_ceil(2) as u64, self.codes.bytes);
        match wanted == got {
            true => Ok(()),
            false => {
                let problem = format!("{wanted} bytes of codes belong here, got {got}");
                Err(self.files.malformed(self.codes, problem))
            }
        }
    }

    fn check_scales(&self, scales: usize, config: FourBitConfig) -> Result<()> {
        self.files.typed(self.absmax, &[if config.double { "U8" } else { "F32" }])?;
        self.files.count(self.absmax, scales as u64, &format!("scales of {} weights each", config.block))
    }

    /// Block and offset of quantized scales, after their lengths have been checked.
    fn nested(&self, state: &State, scales: usize) -> Result<Option<(usize, f32)>> {
        let lacks =
            |what: &str| self.files.malformed(self.state, format!("its scales are quantized, but {what}"));
        let (absmax, map) = match (self.nested_absmax, self.nested_map, state.nested_blocksize) {
            (None, None, None) => return Ok(None),
            (None, ..) => return Err(lacks("the checkpoint lacks `…weight.nested_absmax`")),
            (_, None, _) => return Err(lacks("the checkpoint lacks `…weight.nested_quant_map`")),
            (_, _, None) => return Err(lacks("it has no nested_blocksize")),
            (Some(absmax), Some(map), Some(_)) => (absmax, map),
        };
        let block = state.nested_blocksize.unwrap_or_default();
        if block == 0 {
            return Err(lacks("its nested_blocksize is 0"));
        }
        let offset = state.nested_offset.ok_or_else(|| lacks("it has no nested_offset"))? as f32;
        if state.nested_dtype.as_deref().is_some_and(|dtype| dtype != "float32") {
            return Err(lacks("its nested_dtype is not float32"));
        }
        self.files.typed(absmax, &["F32"])?;
        self.files.typed(map, &["F32"])?;
        self.files.count(absmax, scales.div_ceil(block) as u64, &format!("scales of {block} scales each"))?;
        self.files.count(map, 256, "entries of the map of its scales")?;
        Ok(Some((block, offset)))
    }
}

impl Scheme for FourBitModule {
    fn description(&self) -> String {
        let scales = match self.nested {
            Some((block, _)) => format!("scales in 8 bits by {block}"),
            None => "scales in f32".into(),
        };
        format!("bitsandbytes, blocks of {}, {scales}, of {}", self.config.block, self.config.dtype.name())
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let [codes, absmax, book, nested @ ..] = parts else {
            return Err(Error::Argument(format!("`{}` has lost its parts", shown(name))));
        };
        let values = files.f32s(book)?;
        let book = values.try_into().map_err(|_| files.malformed(book, "16 entries belong here"))?;
        let nested = match (self.nested, nested) {
            (Some((block, offset)), [nested_absmax, map, ..]) => Some(Nested {
                codes: files.bytes(absmax)?,
                map: files.f32s(map)?,
                absmax: files.f32s(nested_absmax)?,
                block,
                offset,
            }),
            _ => None,
        };
        let absmax = match &nested {
            Some(nested) => nested.decode(),
            None => files.f32s(absmax)?,
        };
        let cols = self.shape.last().copied().unwrap_or(1);
        let rows = self.shape.iter().rev().skip(1).product();
        let (format, shape, config) = (self.format, self.shape.clone(), self.config);
        let codes = files.bytes(codes)?;
        let storage = FourBit { format, shape, config, codes, absmax, book, nested };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}
