//! How an adapter lies on a model: by which names, and in which order of rows, as GGUF and
//! checkpoints differ in both.

use super::lora_module::{Contents, LeftOut, Module, STACK, each_once, not_found};
use crate::error::{Error, Result};
use crate::file::container::gguf::Value;
use crate::file::container::tensors::TensorInfo;
use crate::file::model::{Kind, Model};
use crate::file::names::{hint, shown};
use crate::file::names_gguf::{Architecture, Layout, Other};
use crate::format::{self, Recipe};
use crate::linear::Lora;
use crate::tensor::PackedTensor;
use std::collections::BTreeMap;
use std::path::Path;

/// The modules of an adapter by the tensors of a model that they add to.
#[derive(Debug)]
pub struct Fit<'a> {
    path: &'a Path,
    file: &'a Model,
    base: &'a Model,
    by_tensor: BTreeMap<&'a str, Vec<Placed<'a>>>,
    /// Those for which the model has no tensor.
    missing: Vec<&'a Module>,
    left_out: Vec<LeftOut>,
}

/// A module on a tensor.
#[derive(Debug)]
struct Placed<'a> {
    module: &'a Module,
    /// The heads whose rows lie in another order in the model.
    reordered: Option<Heads>,
    /// Which of the tensor's rows it adds to; all of them without one.
    part: Option<Part>,
}

/// How many heads the rows of a matrix belong to, and where they go.
#[derive(Clone, Copy, Debug)]
struct Heads {
    count: usize,
    into: Into,
}

/// The side whose order is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Into {
    Gguf,
    Checkpoint,
}

/// Rows of q, k or v in a tensor that holds all three.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Heads before it.
    before: usize,
    /// Its own.
    heads: usize,
    /// Of q, k and v together.
    all: usize,
}

/// The names of both sides, where they differ.
struct Names {
    architecture: &'static Architecture,
    into: Into,
}

impl<'a> Fit<'a> {
    pub(super) fn new(
        path: &'a Path,
        file: &'a Model,
        contents: &'a Contents,
        base: &'a Model,
    ) -> Result<Self> {
        let names = Names::between(path, file, base)?;
        let mut left_out = contents.left_out.clone();
        let (mut by_tensor, mut missing) = (BTreeMap::<&str, Vec<_>>::new(), vec![]);
        for module in &contents.modules {
            let found = match &names {
                None => base.find(&module.name).ok().map(|info| Found::On(info, Placed::whole(module))),
                Some(names) => names.find(base, module)?,
            };
            match found {
                Some(Found::On(info, placed)) => by_tensor.entry(&info.name).or_default().push(placed),
                Some(Found::InStack) => left_out.push(LeftOut { name: module.name.clone(), why: STACK }),
                None => missing.push(module),
            }
        }
        Ok(Self { path, file, base, by_tensor, missing, left_out: each_once(left_out) })
    }

    /// The tensors that are added to, in the order of their names.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the model lacks one.
    pub fn tensors(&self) -> Result<Vec<&'a TensorInfo>> {
        if let Some(module) = self.missing.first() {
            let near = hint(&module.name, self.base.tensors().iter().map(|t| &*t.name));
            return Err(Error::NotFound {
                file: self.base.path().display().to_string(),
                what: "tensor",
                name: shown(&module.name),
                hint: format!("{near}; adapter {} has a module of this name", self.path.display()),
            });
        }
        self.by_tensor.keys().map(|name| self.base.find(name)).collect()
    }

    /// What the adapter holds and is not used on this model, sorted by name.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// True if something is added to this tensor of the model.
    pub fn adds_to(&self, info: &TensorInfo) -> bool {
        self.by_tensor.contains_key(&*info.name)
    }

    /// What is added to a tensor of the model: nothing, one thing, or one each for the rows of q, k
    /// and v that lie in one tensor.
    ///
    /// # Errors
    /// [`Error::Io`] if the matrices cannot be read, [`Error::Shape`] if their rows are no heads of
    /// the model.
    pub fn low_rank(&self, info: &TensorInfo) -> Result<Vec<Lora>> {
        let placed = self.by_tensor.get(&*info.name).map_or(&[][..], |placed| placed);
        placed.iter().map(|placed| placed.low_rank(self.file, info)).collect()
    }

    /// [`Fit::low_rank`] for a tensor that must be added to.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not; and as there.
    pub fn find(&self, info: &TensorInfo) -> Result<Vec<Lora>> {
        if !self.adds_to(info) {
            let near = || hint(&info.name, self.by_tensor.keys().copied());
            return Err(not_found(self.path, &info.name, &self.left_out, near));
        }
        self.low_rank(info)
    }
}

/// Where a module belongs.
enum Found<'a> {
    On(&'a TensorInfo, Placed<'a>),
    /// To one expert of a tensor that holds all.
    InStack,
}

impl Names {
    /// Those of an adapter and a base; none where they have the same.
    fn between(path: &Path, file: &Model, base: &Model) -> Result<Option<Self>> {
        let is_gguf = |model: &Model| matches!(model.kind(), Kind::Gguf(_));
        let architecture = |model: &'_ Model| {
            let name = model.gguf().get("general.architecture");
            name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let known = |name: &str| {
            Architecture::of_gguf(name).ok_or_else(|| {
                let (path, name, known) = (path.display(), shown(name), Architecture::known());
                let base = base.path().display();
                Error::Argument(format!(
                    "adapter {path} and model {base} have names of different forms, which are known of {known}, not of `{name}`"
                ))
            })
        };
        let refuse = |adapter: &str, model: &str| {
            let (path, base) = (path.display(), base.path().display());
            Err(Error::Argument(format!(
                "adapter {path} is for models of architecture `{}`, {base} is one of `{}`",
                shown(adapter),
                shown(model)
            )))
        };
        match (is_gguf(file), is_gguf(base)) {
            (false, false) => Ok(None),
            (true, true) => match (architecture(file), architecture(base)) {
                (adapter, model) if adapter != model => refuse(&adapter, &model),
                _ => Ok(None),
            },
            (false, true) => Ok(Some(Self { architecture: known(&architecture(base))?, into: Into::Gguf })),
            (true, false) => {
                let architecture = known(&architecture(file))?;
                let model_type = base.config().and_then(|c| c["model_type"].as_str()).unwrap_or_default();
                match architecture.model_types.contains(&model_type) {
                    true => Ok(Some(Self { architecture, into: Into::Checkpoint })),
                    false => refuse(architecture.gguf, model_type),
                }
            }
        }
    }

    /// The tensor of the base that a module adds to.
    fn find<'a>(&self, base: &'a Model, module: &'a Module) -> Result<Option<Found<'a>>> {
        let others = match self.into {
            Into::Gguf => self.architecture.to_gguf(&module.name),
            Into::Checkpoint => self.architecture.to_hugging_face(&module.name).into_iter().collect(),
        };
        for other in &others {
            let is_matrix = matches!(other.layout, Layout::Same | Layout::QueryPairs | Layout::KeyPairs);
            if let Ok(info) = base.find(&other.name) {
                if !is_matrix {
                    return Ok(Some(Found::InStack));
                }
                let reordered = self.reordered(base, other)?;
                return Ok(Some(Found::On(info, Placed { module, reordered, part: None })));
            }
        }
        others.first().map_or(Ok(None), |other| self.in_joined(base, module, other))
    }

    /// A module of q, k or v on a tensor that holds all three.
    fn in_joined<'a>(&self, base: &'a Model, module: &'a Module, other: &Other) -> Result<Option<Found<'a>>> {
        let joined = ["attn_q", "attn_k", "attn_v"].into_iter().enumerate().find_map(|(i, name)| {
            let layer = other.name.strip_suffix(name).filter(|_| self.into == Into::Gguf)?;
            Some((i, base.find(&format!("{layer}attn_qkv")).ok()?))
        });
        let Some((which, info)) = joined else { return Ok(None) };
        let [queries, keys] = [false, true].map(|of_keys| self.heads(base, other, of_keys));
        let (queries, keys) = (queries?, keys?);
        let before = [0, queries, queries + keys][which];
        let heads = if which == 0 { queries } else { keys };
        let part = Some(Part { before, heads, all: queries + 2 * keys });
        let reordered = self.reordered(base, other)?;
        Ok(Some(Found::On(info, Placed { module, reordered, part })))
    }

    fn reordered(&self, base: &Model, other: &Other) -> Result<Option<Heads>> {
        let of_keys = match other.layout {
            Layout::QueryPairs => false,
            Layout::KeyPairs => true,
            _ => return Ok(None),
        };
        Ok(Some(Heads { count: self.heads(base, other, of_keys)?, into: self.into }))
    }

    /// The number of heads of the base, of queries or of keys.
    fn heads(&self, base: &Model, other: &Other, of_keys: bool) -> Result<usize> {
        let found = match self.into {
            Into::Gguf => {
                let key = |end| format!("{}.attention.head_count{end}", self.architecture.gguf);
                // One number for all layers, or one for each.
                let number = |key: String| match base.gguf().get(&key)? {
                    Value::Array(array) => array.iter().nth(other.layer?)?.as_u64(),
                    value => value.as_u64(),
                };
                let all = || number(key(""));
                if of_keys { number(key("_kv")).or_else(all) } else { all() }
            }
            Into::Checkpoint => {
                let number = |key: &str| base.config()?.get(key)?.as_u64();
                let all = || number("num_attention_heads");
                if of_keys { number("num_key_value_heads").or_else(all) } else { all() }
            }
        };
        let found =
            found.and_then(|heads| usize::try_from(heads).ok()).filter(|heads| (1..1 << 20).contains(heads));
        found.ok_or_else(|| {
            let (base, name) = (base.path().display(), shown(&other.name));
            Error::Argument(format!(
                "{base} does not say how many heads `{name}` has, whose rows lie by heads"
            ))
        })
    }
}

impl<'a> Placed<'a> {
    /// A module whose matrices fit as they are.
    fn whole(module: &'a Module) -> Self {
        Self { module, reordered: None, part: None }
    }

    fn low_rank(&self, file: &Model, info: &TensorInfo) -> Result<Lora> {
        let as_stored = self.module.low_rank(file)?;
        let b = match self.reordered {
            None => as_stored.b().clone(),
            Some(heads) => as_stored.b().select_rows(&heads.order(as_stored.b())?)?,
        };
        let b = self.part.map_or(Ok(b.clone()), |part| part.widen(&b, info))?;
        Lora::new(as_stored.a().clone(), b, as_stored.scale())
    }
}

impl Heads {
    /// For each row of the model, which row of b belongs there: in GGUF the rows 2i and 2i + 1 of a
    /// head are those that a checkpoint has in its first and second half.
    fn order(self, b: &PackedTensor) -> Result<Vec<usize>> {
        let (rows, heads) = (b.rows(), self.count);
        if !rows.is_multiple_of(2 * heads) {
            let what = format!("rows of `{}`", shown(b.name()));
            return Err(Error::shape(what, format!("an even number for each of {heads} heads"), rows));
        }
        let half = rows / heads / 2;
        let from = |row: usize| {
            let (head, row) = (row / (2 * half), row % (2 * half));
            let row = match self.into {
                Into::Gguf => row % 2 * half + row / 2,
                Into::Checkpoint => row % half * 2 + row / half,
            };
            head * 2 * half + row
        };
        Ok((0..rows).map(from).collect())
    }
}

impl Part {
    /// b with zeros for the other rows of a tensor.
    fn widen(self, b: &PackedTensor, info: &TensorInfo) -> Result<PackedTensor> {
        let rows = info.rows() as usize;
        let wanted = rows / self.all * self.heads;
        if !rows.is_multiple_of(self.all) || b.rows() != wanted {
            let what = format!("rows of `{}` for `{}`", shown(b.name()), shown(&info.name));
            return Err(Error::shape(
                what,
                format!("{wanted}, {} of {} heads", self.heads, self.all),
                b.rows(),
            ));
        }
        let mut values = vec![0f32; rows * b.cols()];
        let start = rows / self.all * self.before * b.cols();
        values[start..start + b.rows() * b.cols()].copy_from_slice(&b.dequantize());
        PackedTensor::encode(b.name(), [rows, b.cols()], &values, &Recipe::new(format::F32))
    }
}
