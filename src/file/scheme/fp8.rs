//! FP8 weights: `weight` in F8_E4M3 or F8_E5M2 with `weight_scale_inv` for blocks of 128 x 128
//! (DeepSeek, Qwen), `weight_scale` for a tensor, a row, or groups (compressed-tensors, ModelOpt,
//! FBGEMM, MXFP8), `<module>.scale` (DeepSeek), `scale_weight` (ComfyUI), or alone, where no
//! settings and no other tensor speak of scales. All of them multiply, but for `weight_scale_inv`
//! of GPTQModel, which divides where the settings say `weight_scale_semantics` is "inverse".

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;
use crate::file::container::tensors::{Files, Module, Scheme};
use crate::file::names::shown;
use crate::file::scheme::scales::{self, is_weight};
use crate::format::fp8::{self, Fp8, Kind, Scales};
use crate::tensor::PackedTensor;
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) const CONVENTION: Convention =
    Convention { methods: &["fbgemm_fp8", "fp8", "modelopt"], codes: &[], parts: &[], modules };

/// An FP8 weight, as far as headers tell.
#[derive(Clone, Debug)]
struct Fp8Module {
    kind: &'static Kind,
    /// None of a weight that is alone.
    scales: Option<Blocks>,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// What shares one, for people.
    what: What,
    /// Rows of one matrix.
    matrix: usize,
    /// Rows and columns that share a scale.
    block: [usize; 2],
    /// Weights are divided by them.
    divide: bool,
}

/// What shares a scale. A file may hold very many weights, and shapes would take more.
#[derive(Clone, Copy, Debug)]
enum What {
    Tensor,
    Matrix,
    Row,
    Groups,
    Blocks,
}

/// The most weights without scales. A header takes little more for each than its name, and a model
/// has few: those with scales, which are two tensors each, may be as many as there are tensors.
const MAX_ALONE: usize = 1 << 15;

/// What files that do not say so have, if they have blocks.
const BLOCK: [u64; 2] = [128, 128];

/// Tools that give every weight of FP8 a scale.
const SCALING: [&str; 4] = ["compressed-tensors", "fbgemm_fp8", "fp8", "modelopt"];

/// All FP8 weights among the tensors of a checkpoint.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where types, shapes and settings disagree.
fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let (mut modules, mut unscaled, mut alone) = (vec![], vec![], Alone::default());
    for tensor in &checkpoint.table.list {
        let Some(kind) = fp8::kind(tensor.dtype.name()) else { continue };
        let scale = scale_of(checkpoint, tensor)?;
        if scale.is_none() && is_weight(&tensor.name) {
            unscaled.push(tensor);
        }
        modules.extend(module(checkpoint, (tensor, scale), kind, &mut alone)?);
    }
    lone_scales(checkpoint)?;
    let other = scales::unscaled(checkpoint, &unscaled);
    let names: HashSet<&str> = other.iter().map(|t| &*t.name).collect();
    modules.retain(|module| !names.contains(&*module.name));
    unscaled.retain(|weight| !names.contains(&*weight.name));
    drop(names);
    modules.extend(other);
    match (unscaled.first(), checkpoint.settings.method()) {
        (Some(weight), Some(method)) if SCALING.contains(&method) => {
            let problem = format!("the checkpoint has no scale for it, as weights of {method} have");
            Err(checkpoint.files.malformed(weight, problem))
        }
        _ => Ok(modules),
    }
}

/// What weights without scales have in common, by kind: so many of them fit the memory that their
/// file may take.
#[derive(Default)]
struct Alone {
    count: usize,
    schemes: Vec<(*const Kind, Arc<Fp8Module>)>,
}

impl Alone {
    fn scheme(
        &mut self,
        checkpoint: &Checkpoint,
        weight: &TensorInfo,
        kind: &'static Kind,
    ) -> Result<Arc<Fp8Module>> {
        self.count += 1;
        if self.count > MAX_ALONE {
            let problem = format!("more than {MAX_ALONE} weights have no scales");
            return Err(checkpoint.files.malformed(weight, problem));
        }
        if let Some((_, scheme)) = self.schemes.iter().find(|(of, _)| std::ptr::eq(*of, kind)) {
            return Ok(scheme.clone());
        }
        let scheme = Arc::new(Fp8Module { kind, scales: None });
        self.schemes.push((kind, scheme.clone()));
        Ok(scheme)
    }
}

/// Refuses scales whose weight is no FP8: it would be taken without them.
fn lone_scales(checkpoint: &Checkpoint) -> Result<()> {
    let is_scale = |t: &TensorInfo| fp8::kind(t.dtype.name()).is_none();
    checkpoint.ending("_scale_inv").filter(|(t, _)| is_scale(t)).try_for_each(|(scale, name)| {
        checkpoint.files.typed(checkpoint.scaled_by(scale, name, "")?, &["F8_E4M3", "F8_E5M2"])
    })
}

/// The scales of a weight; there is one name for them at most.
fn scale_of<'a>(checkpoint: &Checkpoint<'a>, weight: &TensorInfo) -> Result<Option<&'a TensorInfo>> {
    let name = &*weight.name;
    let inside = name.strip_suffix("weight");
    let names = [
        (Some(name), "_scale_inv"),
        (Some(name), "_scale"),
        (inside, "scale"),
        (inside, "scale_weight"),
        (inside, "qscale_weight"),
    ];
    let mut found = names.iter().filter_map(|(stem, end)| checkpoint.beside((*stem)?, end));
    match (found.next(), found.next()) {
        (Some(a), Some(b)) => {
            let (a, b) = (shown(&a.name), shown(&b.name));
            Err(checkpoint.files.malformed(weight, format!("it has scales in both `{a}` and `{b}`")))
        }
        (scale, _) => Ok(scale),
    }
}

/// The weight as one tensor, or none where it is the scale of something else.
fn module(
    checkpoint: &Checkpoint,
    (weight, scale): (&TensorInfo, Option<&TensorInfo>),
    kind: &'static Kind,
    alone: &mut Alone,
) -> Result<Option<TensorInfo>> {
    if scale.is_none() && !is_weight(&weight.name) {
        return Ok(None);
    }
    let scheme = match scale {
        Some(scale) => {
            let scales = Some(Scaled::new(checkpoint, weight, scale)?.blocks()?);
            Arc::new(Fp8Module { kind, scales })
        }
        None => alone.scheme(checkpoint, weight, kind)?,
    };
    let (name, parts) = (weight.name.clone(), [Some(weight), scale]);
    Ok(Some(Module::info(checkpoint.table, name, kind.format, weight.shape.clone(), &parts, scheme)))
}

/// A weight with scales.
struct Scaled<'a> {
    checkpoint: &'a Checkpoint<'a>,
    scale: &'a TensorInfo,
    weight: &'a TensorInfo,
    /// Matrices, rows of one, columns.
    dims: [u64; 3],
}

impl<'a> Scaled<'a> {
    fn new(checkpoint: &'a Checkpoint, weight: &'a TensorInfo, scale: &'a TensorInfo) -> Result<Self> {
        checkpoint.files.typed(scale, &["F32", "F16", "BF16", "F8_E8M0", "U8"])?;
        let dims = match weight.shape[..] {
            [rows, cols] => [1, rows, cols],
            [stack, rows, cols] => [stack, rows, cols],
            _ => {
                let problem = format!(
                    "it has scales, so 2 or 3 dimensions belong here, its shape is {:?}",
                    weight.shape
                );
                return Err(checkpoint.files.malformed(weight, problem));
            }
        };
        Ok(Self { checkpoint, scale, weight, dims })
    }

    fn blocks(&self) -> Result<Blocks> {
        let [stack, rows, cols] = self.dims;
        let said = self.said();
        // Whole rows or more may share a scale, unless less is said for all.
        let coarse = said.is_empty() || said.contains(&None);
        let said: Vec<[u64; 2]> = said.into_iter().flatten().collect();
        // Without the dimension of the stack, where there is one.
        let inner = match (&self.scale.shape[..], self.weight.shape.len()) {
            ([first, inner @ ..], 3) if *first == stack => Some(inner),
            (inner, 2) => Some(inner),
            _ => None,
        };
        let (matrix, [r, c]) = match (&self.scale.shape[..], inner) {
            ([] | [1] | [1, 1], _) if coarse => (stack * rows, [stack * rows, cols]),
            (_, Some([] | [1] | [1, 1])) if coarse => (rows, [rows, cols]),
            (_, Some([n] | [n, 1])) if *n == rows && coarse => (rows, [1, cols]),
            // The second as ModelOpt has it.
            (_, Some([a, b] | [a, 1, b, 1])) => (rows, self.tiles([*a, *b], &said)?),
            _ => return Err(self.disagrees(&said)),
        };
        let what = match r {
            _ if r >= stack * rows && c >= cols => What::Tensor,
            1 if c >= cols => What::Row,
            _ if r >= rows && c >= cols => What::Matrix,
            1 => What::Groups,
            _ => What::Blocks,
        };
        Ok(Blocks {
            what,
            matrix: matrix.max(1) as usize,
            block: [r.max(1) as usize, c.max(1) as usize],
            divide: self.divide()?,
        })
    }

    /// Whether weights are divided by the scales.
    fn divide(&self) -> Result<bool> {
        match self.checkpoint.settings.weight_scale_semantics() {
            None => Ok(false),
            Some("inverse") => Ok(self.scale.name.ends_with("_scale_inv")),
            Some(other) => {
                let problem =
                    format!("weight_scale_semantics is `{}`; `inverse` and none are known", shown(other));
                Err(self.checkpoint.files.malformed(self.scale, problem))
            }
        }
    }

    /// Blocks of which there are so many: those said, or, where none are, ones that can be
    /// believed.
    fn tiles(&self, [a, b]: [u64; 2], said: &[[u64; 2]]) -> Result<[u64; 2]> {
        let [_, rows, cols] = self.dims;
        let fits = |[r, c]: &[u64; 2]| a == rows.div_ceil(*r) && b == cols.div_ceil(*c);
        let known = if said.is_empty() { &[BLOCK][..] } else { said };
        let mut fit = known.iter().copied().filter(fits);
        match (fit.next(), fit.next()) {
            (Some(block), None) => Ok(block),
            (Some([r, c]), Some([r2, c2])) => {
                let problem = format!(
                    "{a} x {b} scales may be of blocks of {r} x {c} or of {r2} x {c2}, and the settings say both"
                );
                Err(self.checkpoint.files.malformed(self.scale, problem))
            }
            // Groups of columns: no two powers of two make as many.
            (None, _) if said.is_empty() && a == rows && b > 0 && cols.is_multiple_of(b) => {
                let group = cols / b;
                if group.is_power_of_two() { Ok([1, group]) } else { Err(self.disagrees(said)) }
            }
            _ => Err(self.disagrees(said)),
        }
    }

    /// What the settings say of blocks: nothing, or all ways, of which some may leave whole rows or
    /// more to a scale.
    fn said(&self) -> Vec<Option<[u64; 2]>> {
        let settings = self.checkpoint.settings;
        let Some(block) = settings.weight_block_size else {
            let mut all: Vec<_> = settings.ways().map(|way| way.block()).collect();
            all.sort_unstable();
            all.dedup();
            return all;
        };
        let blocks = ["_scale_inv", ".scale"].iter().any(|end| self.scale.name.ends_with(end));
        if blocks { vec![Some(block.0)] } else { vec![Some(block.0), None] }
    }

    fn disagrees(&self, said: &[[u64; 2]]) -> crate::error::Error {
        let [r, c] = said.first().copied().unwrap_or(BLOCK);
        let [_, rows, cols] = self.dims;
        let problem = format!(
            "a weight of {:?} has {} x {} scales for blocks of {r} x {c}, its shape is {:?}",
            self.weight.shape,
            rows.div_ceil(r),
            cols.div_ceil(c),
            self.scale.shape
        );
        self.checkpoint.files.malformed(self.scale, problem)
    }
}

impl Scheme for Fp8Module {
    fn description(&self) -> String {
        let Some(Blocks { what, block: [r, c], divide, .. }) = self.scales else {
            return "FP8, 8 bits, no scale".into();
        };
        let scales = match what {
            What::Tensor => "one scale".into(),
            What::Matrix => "a scale a matrix".into(),
            What::Row => "a scale a row".into(),
            What::Groups => format!("groups of {c}"),
            What::Blocks => format!("blocks of {r} x {c}"),
        };
        format!("FP8, 8 bits, {scales}{}", if divide { " that divides" } else { "" })
    }

    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor> {
        let weight = parts[0];
        let (rows, cols) = (weight.rows() as usize, weight.cols() as usize);
        let scales = match (parts.get(1), self.scales) {
            (Some(scale), Some(Blocks { matrix, block, divide, .. })) => {
                Scales { values: numbers(scale, files)?, matrix, block, divide }
            }
            _ => Scales::one((rows, cols), 1.0),
        };
        let storage = Fp8 { kind: self.kind, shape: [rows, cols], codes: files.bytes(weight)?, scales };
        PackedTensor::from_storage(name, (rows, cols), Arc::new(storage))
    }
}

/// Scales as numbers; bytes are exponents (E8M0).
fn numbers(scale: &TensorInfo, files: &Files) -> Result<Vec<f32>> {
    match scale.dtype.name() {
        "F8_E8M0" | "U8" => Ok(files.bytes(scale)?.iter().map(|e| fp8::power(*e)).collect()),
        _ => files.f32s(scale),
    }
}
