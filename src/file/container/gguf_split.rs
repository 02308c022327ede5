//! GGUF models in several files, `NAME-00001-of-0000N.gguf`: each is a GGUF file of its own with
//! three keys that say which part it is, and the first holds the metadata of the whole.

use crate::error::{Error, Result};
use crate::file::container::folder::{Folder, malformed};
use crate::file::container::gguf::{self, Gguf};
use crate::file::container::gguf_value::{Metadata, Value};
use crate::file::container::source::Source;
use crate::file::container::tensors::{MAX_TENSORS, TensorInfo, TensorTable};
use crate::file::names::shown;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Which part a file is, from 0; U16.
const NO: &str = "split.no";
/// How many parts there are; U16.
const COUNT: &str = "split.count";
/// The tensors of all parts; I32.
const TENSORS: &str = "split.tensors.count";
/// The keys that say something of a file, not of the model.
pub(crate) const KEYS: [&str; 3] = [NO, COUNT, TENSORS];
/// The most parts of a model: what `split.count` can say.
pub(crate) const MAX_PARTS: usize = u16::MAX as usize;

/// Which of how many parts a file is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// From 0.
    pub no: usize,
    pub count: usize,
}

impl Part {
    /// Keys and values for a part of a model of so many tensors.
    pub fn entries(self, tensors: usize) -> [(&'static str, Value<'static>); 3] {
        // As llama.cpp reads them; more parts and tensors than these hold are refused before.
        [
            (NO, Value::U16(self.no as u16)),
            (COUNT, Value::U16(self.count as u16)),
            (TENSORS, Value::I32(tensors as i32)),
        ]
    }

    /// The end of the part's file name.
    fn suffix(self) -> String {
        format!("-{:05}-of-{:05}.gguf", self.no + 1, self.count)
    }

    /// The file of this part of the model `path`, which may or may not end in `.gguf`, or name a
    /// part itself.
    pub fn path(self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        let mut part: OsString = match name.to_str() {
            Some(text) => match stem(text) {
                Some((stem, _)) => stem.into(),
                None => text.strip_suffix(".gguf").unwrap_or(text).into(),
            },
            None => name.into(),
        };
        part.push(self.suffix());
        path.with_file_name(part)
    }
}

/// `NAME` of `NAME-00001-of-00003.gguf`, and which part that is.
fn stem(name: &str) -> Option<(&str, Part)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let is_one = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<usize>().ok().filter(|_| is_one)
    };
    Some((stem, Part { no: number(no)?.checked_sub(1)?, count: number(count)? }))
}

/// The first of these names, in their order, if all are parts of one model.
pub(crate) fn first_of_one_model<'a>(names: &[&'a String]) -> Option<&'a String> {
    let model = |name: &'a String| stem(name).map(|(stem, part)| (stem, part.count));
    let (first, others) = names.split_first()?;
    let wanted = model(first)?;
    others.iter().all(|name| model(name) == Some(wanted)).then_some(*first)
}

/// A model's header, and the files that hold its tensors.
pub(crate) struct Whole {
    pub gguf: Gguf,
    pub files: Vec<Source>,
}

/// What a file says of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Claim {
    part: Part,
    tensors: u64,
}

impl Claim {
    /// `None` of a file that is a model by itself.
    fn of(source: &Source, metadata: &Metadata) -> Result<Option<Self>> {
        let wrong = |key: &str, problem| malformed_key(source, metadata, key, problem);
        let number = |key: &str, limit: u64| {
            let value = metadata.get(key);
            let value =
                value.ok_or_else(|| wrong(COUNT, format!("the file is a part, but has no key `{key}`")))?;
            let number = value.as_u64().filter(|number| *number <= limit);
            number.ok_or_else(|| wrong(key, format!("wanted a number up to {limit}, got {value}")))
        };
        if metadata.get(COUNT).is_none() {
            return Ok(None);
        }
        let count = number(COUNT, MAX_PARTS as u64)? as usize;
        if count < 2 {
            return Ok(None);
        }
        let (no, tensors) = (number(NO, count as u64 - 1)? as usize, number(TENSORS, MAX_TENSORS)?);
        Ok(Some(Self { part: Part { no, count }, tensors }))
    }
}

fn malformed_key(source: &Source, metadata: &Metadata, key: &str, problem: String) -> Error {
    malformed(source.path(), &format!("key `{key}`"), metadata.offset(key), problem)
}

/// Opens a file, and if it is a part of a model, the other parts that lie beside it.
///
/// # Errors
/// As [`gguf::open`]; [`Error::NotFound`] with the name of a part that is missing;
/// [`Error::Malformed`] with the file of one that belongs to another model.
pub(crate) fn open(source: Source, folder: &Folder, name: &Path) -> Result<Whole> {
    let gguf = gguf::open(&source)?;
    let Some(claim) = Claim::of(&source, &gguf.metadata)? else {
        return Ok(Whole { gguf, files: vec![source] });
    };
    let Part { no, count } = claim.part;
    let named = name.file_name().and_then(|name| name.to_str()).and_then(stem);
    if named.is_none_or(|(_, part)| part != claim.part) {
        let problem = format!(
            "it is part {} of {count}, whose name ends in `{}`: without that the others cannot be found",
            no + 1,
            claim.part.suffix()
        );
        return Err(malformed_key(&source, &gguf.metadata, NO, problem));
    }
    let label = shown(&source.label());
    let mut opened = Some((source, gguf));
    let (mut parts, mut lacking) = (Vec::new(), None);
    for at in 0..count {
        parts.push(match opened.take_if(|_| at == no) {
            Some(opened) => opened,
            None => match other_part(folder, &Part { no: at, count }.path(name), &claim, at, &label) {
                Ok(part) => part,
                // The others are looked at too, so that what is missing comes together.
                Err(error) if folder.lacks() => {
                    lacking.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            },
        });
    }
    if let Some(error) = lacking {
        return Err(error);
    }
    merge(parts, claim.tensors)
}

/// A part that lies beside the one that was opened, whose claim and label these are.
fn other_part(
    folder: &Folder,
    path: &Path,
    opened: &Claim,
    at: usize,
    label: &str,
) -> Result<(Source, Gguf)> {
    let count = opened.part.count;
    if !folder.has(path) {
        return Err(Error::NotFound {
            file: folder.path().display().to_string(),
            what: "file",
            name: shown(&path.display().to_string()),
            hint: format!(
                ": part {} of {count} is missing; `{label}` is part {}",
                at + 1,
                opened.part.no + 1
            ),
        });
    }
    let source = folder.source(path)?;
    let gguf = gguf::open(&source)?;
    let wrong = |key, problem| Err(malformed_key(&source, &gguf.metadata, key, problem));
    match Claim::of(&source, &gguf.metadata)? {
        None => wrong(
            COUNT,
            format!("it is no part of a model, but `{label}` is part {} of {count}", opened.part.no + 1),
        ),
        Some(claim) if claim.part.count != count => {
            wrong(COUNT, format!("it is a part of {}, but `{label}` is one of {count}", claim.part.count))
        }
        Some(claim) if claim.part.no != at => {
            wrong(NO, format!("it says {}, but by its name it is {at}", claim.part.no))
        }
        Some(claim) if claim.tensors != opened.tensors => wrong(
            TENSORS,
            format!(
                "it says {}, but `{label}` says {}: they are of different models",
                claim.tensors, opened.tensors
            ),
        ),
        Some(_) => Ok((source, gguf)),
    }
}

/// The model that all parts are together, of so many tensors.
fn merge(parts: Vec<(Source, Gguf)>, tensors: u64) -> Result<Whole> {
    let (mut files, mut list, mut first) = (Vec::new(), Vec::new(), None);
    for (file, (source, Gguf { version, metadata, tensors })) in parts.into_iter().enumerate() {
        list.extend(tensors.list.into_iter().map(|tensor| TensorInfo { file, ..tensor }));
        files.push(source);
        first.get_or_insert((version, metadata));
    }
    let (version, metadata) = first.unwrap_or_default();
    if list.len() as u64 != tensors {
        let problem = format!("it says {tensors}, but the {} parts hold {}", files.len(), list.len());
        return Err(malformed_key(&files[0], &metadata, TENSORS, problem));
    }
    let tensors = TensorTable::new(list).map_err(|(i, list)| {
        let problem = "a part before it holds a tensor of this name".to_owned();
        malformed(
            files[list[i].file].path(),
            &format!("tensor `{}`", shown(&list[i].name)),
            list[i].offset,
            problem,
        )
    })?;
    Ok(Whole { gguf: Gguf { version, metadata, tensors }, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let part = Part { no: 1, count: 12 };
        for path in ["m.gguf", "m", "m-00001-of-00003.gguf"] {
            assert_eq!(part.path(Path::new(path)), Path::new("m-00002-of-00012.gguf"));
        }
        assert_eq!(part.path(Path::new("a/m.q4.gguf")), Path::new("a/m.q4-00002-of-00012.gguf"));
        assert_eq!(stem("a-b-00002-of-00012.gguf"), Some(("a-b", part)));
        for name in
            ["m.gguf", "m-00000-of-00012.gguf", "m-2-of-12.gguf", "m-00002-of-00012", "m-+0002-of-00012.gguf"]
        {
            assert_eq!(stem(name), None, "{name}");
        }
    }

    #[test]
    fn a_folder_of_one_model_stands_for_it() {
        let of = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            first_of_one_model(&names.iter().collect::<Vec<_>>()).cloned()
        };
        let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert_eq!(of(&parts).as_deref(), Some(parts[0]));
        assert_eq!(
            of(&parts[1..]).as_deref(),
            Some(parts[1]),
            "the first is missing, which opening it tells"
        );
        assert_eq!(of(&[parts[0], "n-00002-of-00002.gguf"]), None);
        assert_eq!(of(&[parts[0], "m-00002-of-00003.gguf"]), None);
        assert_eq!(of(&[parts[0], "m.gguf"]), None);
    }
}
