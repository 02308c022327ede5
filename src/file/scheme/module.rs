//! Weights that several tensors of a checkpoint hold together: found by the conventions of the tools that write them.

use super::{awq, bitsandbytes, bitsandbytes_int8, compressed_tensors, float4, fp8, gptq, hqq, scales};
use crate::error::{Error, Result};
use crate::file::container::source::Source;
use crate::file::container::stored::DType;
use crate::file::container::tensors::{TensorInfo, TensorTable};
use crate::file::names::{self, shown};
use crate::file::scheme::settings::Settings;
use crate::format::Format;
use crate::linear::OutlierColumns;
use crate::tensor::PackedTensor;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// The tensors behind one weight, and what is known of them from their headers.
#[derive(Clone, Debug)]
pub struct Module {
    /// Their positions among those of the files, the codes first. A file may hold so many weights that copies would outgrow it.
    parts: Positions,
    scheme: Arc<dyn Scheme>,
}

/// One position lies where the address of several would.
#[derive(Clone, Debug, PartialEq)]
enum Positions {
    One(u32),
    Several(Box<[u32]>),
}

impl Positions {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(position) => std::slice::from_ref(position),
            Self::Several(positions) => positions,
        }
    }
}

/// How they belong together: a convention of one tool.
pub(crate) trait Scheme: std::fmt::Debug + Send + Sync {
    /// See [`Module::description`].
    fn description(&self) -> String;

    /// The weight of this name, made of these parts.
    fn load(&self, name: &str, parts: &[&TensorInfo], files: &Files) -> Result<PackedTensor>;

    /// True if some parts are columns in 16 bits besides.
    fn has_kept(&self) -> bool {
        false
    }

    /// Those columns.
    fn kept(&self, _parts: &[&TensorInfo], _files: &Files) -> Result<Option<OutlierColumns>> {
        Ok(None)
    }
}

impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Module {
    /// What a reader should know beyond the format: "blocks of 64, scales in 8 bits, from float16".
    pub fn description(&self) -> String {
        self.scheme.description()
    }

    pub(crate) fn load(&self, name: &str, stored: &[TensorInfo], files: &Files) -> Result<PackedTensor> {
        self.scheme.load(name, &self.parts(stored), files)
    }

    /// The tensors themselves, the codes first.
    pub(crate) fn parts<'a>(&self, stored: &'a [TensorInfo]) -> Vec<&'a TensorInfo> {
        self.parts.as_slice().iter().filter_map(|i| stored.get(*i as usize)).collect()
    }

    /// A weight of this name, format and shape, made of these parts of the table, the codes first.
    pub(crate) fn info(
        table: &TensorTable,
        name: String,
        format: &'static Format,
        shape: Vec<u64>,
        parts: &[Option<&TensorInfo>],
        scheme: Arc<dyn Scheme>,
    ) -> TensorInfo {
        let parts = || parts.iter().copied().flatten();
        let positions: Vec<u32> = parts().map(|part| table.position(part)).collect();
        let positions = match positions[..] {
            [one] => Positions::One(one),
            _ => Positions::Several(positions.into()),
        };
        let (offset, file) = parts().next().map_or((0, 0), |codes| (codes.offset, codes.file));
        TensorInfo {
            name,
            dtype: DType::Supported(format),
            shape,
            offset,
            bytes: parts().map(|p| p.bytes).sum(),
            file,
            module: Some(Arc::new(Self { parts: positions, scheme })),
        }
    }

    /// True if the file holds columns in 16 bits besides.
    pub fn has_kept_columns(&self) -> bool {
        self.scheme.has_kept()
    }

    /// Columns that the file holds in 16 bits besides.
    pub(crate) fn kept(&self, stored: &[TensorInfo], files: &Files) -> Result<Option<OutlierColumns>> {
        self.scheme.kept(&self.parts(stored), files)
    }
}

/// What a convention looks at: the tensors of a checkpoint, their bytes, and its settings.
pub(crate) struct Checkpoint<'a> {
    pub table: &'a TensorTable,
    pub files: &'a Files<'a>,
    pub settings: &'a Settings,
    /// What follows the last dots of names, each once: `weight`, `scales`. None where there are very many, as no tool writes them.
    lasts: Option<HashSet<&'a str>>,
    /// Ends of names that were asked for, and whether any name has them: most questions are about conventions of other tools.
    ends: RefCell<Vec<(&'static str, bool)>>,
}

/// The most different ends of names that are remembered.
const MAX_LASTS: usize = 1024;

impl<'a> Checkpoint<'a> {
    fn new(table: &'a TensorTable, files: &'a Files<'a>, settings: &'a Settings) -> Self {
        let (mut lasts, mut before) = (HashSet::new(), "");
        for tensor in &table.list {
            let last = names::last(&tensor.name);
            if last != before {
                lasts.insert(last);
                before = last;
            }
            if lasts.len() > MAX_LASTS {
                break;
            }
        }
        let lasts = (lasts.len() <= MAX_LASTS).then_some(lasts);
        Self { table, files, settings, lasts, ends: RefCell::default() }
    }

    /// False if no name ends so.
    pub fn occurs(&self, end: &'static str) -> bool {
        // The same place in the program, which costs less to find out than the same text.
        let same = |other: &&(&str, bool)| std::ptr::eq(other.0, end);
        let known = self.ends.borrow().iter().find(same).map(|(_, occurs)| *occurs);
        known.unwrap_or_else(|| {
            let occurs = match (&self.lasts, end.rsplit_once('.')) {
                (Some(lasts), Some((_, last))) => lasts.contains(last),
                (Some(lasts), None) => lasts.iter().any(|last| last.ends_with(end)),
                (None, _) => self.table.list.iter().any(|t| t.name.ends_with(end)),
            };
            self.ends.borrow_mut().push((end, occurs));
            occurs
        })
    }

    /// False if nothing that follows the last dot of a name begins so.
    pub fn last_begins(&self, start: &str) -> bool {
        self.lasts.as_ref().is_none_or(|lasts| lasts.iter().any(|last| last.starts_with(start)))
    }

    /// The tensors whose names end so, and what stands before.
    pub fn ending(&self, end: &'static str) -> impl Iterator<Item = (&'a TensorInfo, &'a str)> + use<'a> {
        let list = if self.occurs(end) { &self.table.list[..] } else { &[] };
        list.iter().filter_map(move |t| Some((t, t.name.strip_suffix(end)?)))
    }

    /// The tensors of this name in any module, or in none, and what stands before: `a.` of `a.SCB`, nothing of `SCB`.
    pub fn named(&self, name: &'static str) -> impl Iterator<Item = (&'a TensorInfo, &'a str)> + use<'a> {
        self.ending(name).filter(|(_, before)| before.is_empty() || before.ends_with('.'))
    }

    /// The tensor whose name is `stem` and then `end`, if there is one.
    pub fn beside(&self, stem: &str, end: &'static str) -> Option<&'a TensorInfo> {
        self.occurs(end).then(|| self.table.beside(stem, end)).flatten()
    }

    /// The tensor whose name is `stem` and then `end`, without which another makes no sense.
    ///
    /// # Errors
    /// [`Error::Malformed`] about the other if there is none.
    pub fn need(&self, other: &TensorInfo, stem: &str, end: &str) -> Result<&'a TensorInfo> {
        self.table.beside(stem, end).ok_or_else(|| {
            let name = shown(&format!("{stem}{end}"));
            self.files.malformed(other, format!("the checkpoint lacks `{name}`"))
        })
    }

    /// The weight of this name, in two pieces, whose scales another tensor holds.
    ///
    /// # Errors
    /// As [`Checkpoint::need`].
    pub fn scaled_by(&self, scale: &TensorInfo, stem: &str, end: &str) -> Result<&'a TensorInfo> {
        self.table.beside(stem, end).ok_or_else(|| {
            let name = shown(&format!("{stem}{end}"));
            let problem = format!("the checkpoint lacks `{name}`, whose scales these are");
            self.files.malformed(scale, problem)
        })
    }
}

/// The files of a model.
pub(crate) struct Files<'a>(pub &'a [Source]);

impl Files<'_> {
    /// All bytes of a tensor.
    pub fn bytes(&self, tensor: &TensorInfo) -> Result<Bytes> {
        self.range(tensor, 0..tensor.bytes)
    }

    /// Some bytes of a tensor.
    pub fn range(&self, info: &TensorInfo, range: Range<u64>) -> Result<Bytes> {
        let start = info.offset.checked_add(range.start);
        let end = info.offset.checked_add(range.end).filter(|_| range.end <= info.bytes);
        match (start.zip(end), self.0.get(info.file)) {
            (Some((start, end)), Some(file)) if start <= end => file.read(start..end),
            _ => Err(Error::Argument(format!("tensor `{}` has no bytes {range:?}", shown(&info.name)))),
        }
    }

    /// The numbers of a tensor of F32, F16 or BF16.
    pub fn f32s(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.bytes(tensor)?;
        let halves = |decode: fn([u8; 2]) -> f32| bytes.as_chunks().0.iter().map(|b| decode(*b)).collect();
        match tensor.dtype.name() {
            "F32" => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            "F16" => Ok(halves(|b| half::f16::from_le_bytes(b).to_f32())),
            "BF16" => Ok(halves(|b| half::bf16::from_le_bytes(b).to_f32())),
            other => {
                Err(self.malformed(tensor, format!("its type should be F32, F16 or BF16, it is {other}")))
            }
        }
    }

    /// The words of a tensor of I32.
    pub fn words(&self, tensor: &TensorInfo) -> Result<Vec<u32>> {
        match tensor.dtype.name() {
            "I32" => Ok(self.bytes(tensor)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
            other => Err(self.malformed(tensor, format!("its type should be I32, it is {other}"))),
        }
    }

    /// Refuses a tensor of another shape.
    pub fn expect(&self, tensor: &TensorInfo, shape: &[u64], what: &str) -> Result<()> {
        match tensor.shape == shape {
            true => Ok(()),
            false => {
                let problem = format!("{what} {shape:?} belong here, its shape is {:?}", tensor.shape);
                Err(self.malformed(tensor, problem))
            }
        }
    }

    /// Refuses a tensor of another number of elements, whatever its shape.
    pub fn count(&self, tensor: &TensorInfo, count: u64, what: &str) -> Result<()> {
        match tensor.elements() == count {
            true => Ok(()),
            false => {
                let (got, shape) = (tensor.elements(), &tensor.shape);
                Err(self.malformed(
                    tensor,
                    format!("{count} {what} belong here, got {got} (its shape is {shape:?})"),
                ))
            }
        }
    }

    /// Refuses a tensor that is no matrix; its rows and columns.
    pub fn matrix(&self, tensor: &TensorInfo) -> Result<[u64; 2]> {
        let problem = || format!("a matrix belongs here, its shape is {:?}", tensor.shape);
        <[u64; 2]>::try_from(&*tensor.shape).map_err(|_| self.malformed(tensor, problem()))
    }

    /// Refuses a tensor of another type.
    pub fn typed(&self, tensor: &TensorInfo, types: &[&str]) -> Result<()> {
        match types.contains(&tensor.dtype.name()) {
            true => Ok(()),
            false => {
                let problem = format!("its type should be {}, it is {}", types.join(" or "), tensor.dtype);
                Err(self.malformed(tensor, problem))
            }
        }
    }

    /// Something that is wrong with a tensor.
    pub fn malformed(&self, tensor: &TensorInfo, problem: impl Into<String>) -> Error {
        Error::Malformed {
            file: self.0.get(tensor.file).map(Source::label).unwrap_or_default(),
            what: format!("tensor `{}`", shown(&tensor.name)),
            offset: tensor.offset,
            problem: problem.into(),
        }
    }
}

/// Finds the weights of one convention, all lengths checked.
type Convention = fn(&Checkpoint) -> Result<Vec<TensorInfo>>;

/// Every convention, one a line.
const CONVENTIONS: &[Convention] = &[
    awq::modules,
    bitsandbytes::modules,
    bitsandbytes_int8::modules,
    compressed_tensors::modules,
    float4::modules,
    fp8::modules,
    gptq::modules,
    hqq::modules,
];

/// Weights, and the tensors that they are made of.
pub(crate) struct Gathered {
    /// What was listed, those that belong together as one.
    pub tensors: TensorTable,
    /// What parts of modules are positions of; what is no part has lost its name and shape.
    pub stored: Vec<TensorInfo>,
}

/// The tensors of `table`, those that belong together as one.
pub(crate) fn gather(table: TensorTable, files: &Files, settings: &Settings) -> Result<Gathered> {
    let checkpoint = Checkpoint::new(&table, files, settings);
    let mut modules = vec![];
    for convention in CONVENTIONS {
        modules.extend(convention(&checkpoint)?);
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

/// By position. Refuses a tensor that two weights claim: one of them would be made of the other's bytes.
fn uses(modules: &[TensorInfo], checkpoint: &Checkpoint) -> Result<Vec<Use>> {
    let list = &checkpoint.table.list;
    let mut uses = vec![Use::None; list.len()];
    for module in modules.iter().filter_map(|m| m.module.as_ref()) {
        for (i, position) in module.parts.as_slice().iter().map(|p| *p as usize).enumerate() {
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
    let codes = |m: &TensorInfo| m.module.as_ref().and_then(|m| m.parts.as_slice().first().copied());
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

/// Names of codes in their modules, which make no sense as tensors of their own.
pub(crate) const CODES: &[&str] = &["qweight", "weight_packed", "W_q"];

/// Refuses a scheme that no convention knows: its codes would pass for matrices of integers.
fn refuse_unknown(checkpoint: &Checkpoint, uses: &[Use]) -> Result<()> {
    let list =
        || checkpoint.table.list.iter().zip(uses).filter(|(_, used)| **used == Use::None).map(|(t, _)| t);
    scales::refuse_unclaimed(checkpoint, list())?;
    let codes: Vec<&str> = CODES.iter().copied().filter(|name| checkpoint.occurs(name)).collect();
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
