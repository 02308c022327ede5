//! Checkpoints of several files: the folder's conventions, and the index that says which shard
//! holds which tensor.

use super::registry::{self, module_of_part};
use crate::error::{Error, Result};
use crate::file::container::folder::{Folder, malformed};
use crate::file::container::gguf_split::first_of_one_model;
use crate::file::container::json::{self, Append, Compound, Texts};
use crate::file::container::tensors::{TensorInfo, TensorTable};
use crate::file::names::{NameIndex, shown};
use crate::file::scheme::config::{Config, json_error};
use crate::file::scheme::scales::module_of_scale;
use crate::file::scheme::settings::{self, QuantizationConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The longest index; the largest checkpoints have 15 MB, 150,000 tensors and 200 shards.
const MAX_INDEX: u64 = 100_000_000;
/// The most tensors in an index.
const MAX_TENSORS: usize = 262_144;
/// The most shards.
const MAX_SHARDS: usize = 16_384;
/// The most parts of a shard's path, since each look at a file takes a step for every one; real
/// ones have one or two.
const MAX_PARTS: usize = 16;

/// The file to open of a folder: the index of its shards, its only safetensors file, or its only
/// GGUF, which may lie in parts.
pub(crate) fn main_file(folder: &Folder) -> Result<String> {
    let names = folder.names()?;
    for (suffix, preferred) in PREFERENCES {
        let matching: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
        let chosen = matching.iter().find(|name| preferred.contains(&name.as_str()));
        match (chosen, &matching[..]) {
            (Some(name), _) | (None, [name]) => return Ok((*name).clone()),
            (None, []) => {}
            (None, several) => {
                let first = first_of_one_model(several).cloned();
                return first.ok_or_else(|| ambiguous(folder.path(), suffix, several.len()));
            }
        }
    }
    let name = "*.safetensors or *.gguf".into();
    Err(Error::NotFound {
        file: folder.path().display().to_string(),
        what: "model",
        name,
        hint: String::new(),
    })
}

/// Ends of file names, best first, and those to take among several.
const PREFERENCES: &[(&str, &[&str])] = &[
    (".safetensors.index.json", &["model.safetensors.index.json"]),
    (".safetensors", &["model.safetensors", "adapter_model.safetensors"]),
    (".gguf", &[]),
];

fn ambiguous(folder: &Path, suffix: &str, count: usize) -> Error {
    Error::Argument(format!("{}: {count} files end in `{suffix}`; name one of them", folder.display()))
}

/// How a checkpoint was quantized: `quantization_config` of its config.json, or the
/// quantize_config.json of older tools, whose path comes with it.
pub(crate) fn quantization(
    folder: &Folder,
    config: Option<&Config>,
) -> Result<(QuantizationConfig, Option<PathBuf>)> {
    let methods = registry::methods();
    if let Some(config) = config
        && let Some(settings) = config.parse::<settings::Config>()?.settings()
    {
        return Ok((settings.checked(config.path(), &methods)?, None));
    }
    match Config::open(folder, "quantize_config.json")? {
        Some(config) => {
            let settings = config.parse::<QuantizationConfig>()?.checked(config.path(), &methods)?;
            Ok((settings, Some(config.path().into())))
        }
        None => Ok((QuantizationConfig::default(), None)),
    }
}

/// An index: which shard holds which tensor.
pub(crate) struct Index {
    path: PathBuf,
    text: String,
    /// File names beside the index, sorted.
    pub shards: Vec<String>,
    /// Names of tensors.
    tensors: Texts,
    /// The position of the shard of each.
    shard_of: Vec<u32>,
    index: NameIndex,
}

impl Index {
    /// Reads and checks an index; the shards are not opened.
    pub fn open(folder: &Folder, name: &Path) -> Result<Self> {
        let (path, text) = (folder.join(name), folder.text(name, MAX_INDEX)?);
        let parsed: Compound<IndexJson> =
            serde_json::from_str(&text).map_err(|e| json_error(&path, &text, &e))?;
        let WeightMap { shards, tensors, shard_of } = parsed.0.weight_map;
        let (index, duplicate) = match tensors.index() {
            Ok(index) => (index, None),
            Err(i) => (NameIndex::default(), Some(i)),
        };
        let index = Self { path, text, shards, tensors, shard_of, index };
        if let Some(i) = duplicate {
            return Err(index.malformed(index.tensors.get(i), "it is listed twice".into()));
        }
        index.check_shards(folder)?;
        Ok(index)
    }

    /// Refuses shards that are not files below the folder of the index, and shards that are
    /// missing.
    fn check_shards(&self, folder: &Folder) -> Result<()> {
        let mut seen = HashMap::new();
        for (i, shard) in self.shards.iter().enumerate() {
            let path = Path::new(shard);
            let outside = path.components().any(|part| !matches!(part, Component::Normal(_)));
            // The same file by another name: a link, or capitals where they make no difference.
            let file = |path: &Path| {
                let path = folder.join(path);
                fs::canonicalize(&path).unwrap_or_else(|_| path.components().collect())
            };
            let mut same = |path: &Path| seen.insert(file(path), shard);
            let parts = path.components().count();
            let problem = match () {
                _ if outside || shard.is_empty() => "is not a file name below the folder of the index".into(),
                _ if parts > MAX_PARTS => format!("is a path of {parts} parts, the limit is {MAX_PARTS}"),
                _ if !folder.has(path) => "is missing".into(),
                _ => match same(path) {
                    Some(other) => format!("is the file of the shard `{}`", shown(other)),
                    None => continue,
                },
            };
            let first = self.shard_of.iter().position(|shard| *shard as usize == i);
            let name = first.map_or("", |first| self.tensors.get(first));
            return Err(self.malformed(name, format!("its shard `{}` {problem}", shown(shard))));
        }
        Ok(())
    }

    /// One table of the tensors of all shards. Where shards and index disagree, the index is
    /// believed about tensors it does not list (they are left out), and refused about tensors that
    /// are not where it puts them.
    pub fn merge(&self, shards: Vec<TensorTable>) -> Result<TensorTable> {
        let mut seen = vec![false; self.tensors.len()];
        let mut list = Vec::with_capacity(self.tensors.len());
        let mut unlisted = vec![];
        let is_part = |name: &str| module_of_scale(name).or_else(|| module_of_part(name)).is_some();
        for (shard, table) in shards.into_iter().enumerate() {
            for tensor in table.list {
                let name = |i| self.tensors.get(i).as_bytes();
                let listed = self.index.find(&[tensor.name.as_bytes()], name);
                if let Some(i) = listed.filter(|&i| self.shard_of[i] as usize == shard) {
                    seen[i] = true;
                    list.push(TensorInfo { file: shard, ..tensor });
                } else if listed.is_none() && is_part(&tensor.name) {
                    unlisted.push(tensor.name);
                }
            }
        }
        if let Some(missing) = seen.iter().position(|seen| !seen) {
            let shard = &self.shards[self.shard_of[missing] as usize];
            let problem = format!("its shard `{}` does not hold it", shown(shard));
            return Err(self.malformed(self.tensors.get(missing), problem));
        }
        let table = TensorTable::new(list)
            .map_err(|(i, list)| self.malformed(&list[i].name, "it is listed twice".into()))?;
        self.check_unlisted(&table, &unlisted)?;
        Ok(table)
    }

    /// Refuses to leave out parts of a weight that the index lists: it would be taken without them.
    fn check_unlisted(&self, table: &TensorTable, parts: &[String]) -> Result<()> {
        let scaled = |part: &String| {
            let weight = beside(table, module_of_scale(part)?, "weight")?;
            Some(weight).filter(|w| ["I8", "F8_E4M3", "F8_E5M2"].contains(&w.dtype.name()))
        };
        let whole = |part: &String| {
            let module = module_of_part(part)?;
            registry::codes().chain(["weight"]).find_map(|name| beside(table, module, name))
        };
        let weight = |part: &String| scaled(part).or_else(|| whole(part));
        match parts.iter().find_map(|part| Some((part, weight(part)?))) {
            None => Ok(()),
            Some((part, weight)) => {
                let problem = format!("a shard holds its `{}`, which the index does not list", shown(part));
                Err(self.malformed(&weight.name, problem))
            }
        }
    }

    fn malformed(&self, name: &str, problem: String) -> Error {
        let what = format!("tensor `{}`", shown(name));
        let offset = json::locate(&self.text, name, '"').unwrap_or(0);
        malformed(&self.path, &what, offset, problem)
    }
}

/// The tensor of this name in a module, or in none.
fn beside<'a>(table: &'a TensorTable, module: &str, name: &str) -> Option<&'a TensorInfo> {
    match module {
        "" => table.get(name),
        _ => table.get(&format!("{module}.{name}")),
    }
}

/// What it holds beside `weight_map` is passed over.
#[derive(Deserialize)]
struct IndexJson {
    weight_map: WeightMap,
}

/// `{"tensor": "shard", …}`, each shard's name kept once, and in order.
struct WeightMap {
    shards: Vec<String>,
    tensors: Texts,
    shard_of: Vec<u32>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightMapVisitor)
    }
}

/// A path without what changes nothing in it: `x/m` for `x/.//m`. Otherwise a short index could
/// name one file many thousand times.
fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('/') {
        return path.into();
    }
    // What begins or ends with a slash or a dot is no plain path.
    let (first, mut rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let mut normal = first.to_owned();
    while !rest.is_empty() {
        let after = rest.trim_start_matches('/');
        let (part, next) = after.split_at(after.find('/').unwrap_or(after.len()));
        if part != "." || next.is_empty() {
            normal.push('/');
            normal.push_str(part);
        }
        rest = next;
    }
    normal.into()
}

/// The shards that were named so far, and their numbers in the order of their first tensors.
#[derive(Default)]
struct Shards(BTreeMap<String, u32>);

/// The number of the shard that a JSON string names.
impl<'de> DeserializeSeed<'de> for &mut Shards {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &mut Shards {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string: the name of a file")
    }

    fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<u32, E> {
        let (path, next) = (normal(path), self.0.len());
        match self.0.get(&*path) {
            Some(shard) => Ok(*shard),
            None if next == MAX_SHARDS => Err(E::custom(format!("more than {MAX_SHARDS} shards"))),
            None => Ok(*self.0.entry(path.into_owned()).or_insert(next as u32)),
        }
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensors to files")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<WeightMap, E> {
        Err(json::no_text(&self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let (mut tensors, mut shard_of, mut shards) = (Texts::default(), Vec::new(), Shards::default());
        while map.next_key_seed(Append(&mut tensors))?.is_some() {
            shard_of.push(map.next_value_seed(&mut shards)?);
            if tensors.len() > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
        }
        let mut position = vec![0; shards.0.len()];
        for (sorted, read) in shards.0.values().enumerate() {
            position[*read as usize] = sorted as u32;
        }
        shard_of.iter_mut().for_each(|shard| *shard = position[*shard as usize]);
        Ok(WeightMap { shards: shards.0.into_keys().collect(), tensors, shard_of })
    }
}
