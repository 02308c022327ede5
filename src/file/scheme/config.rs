//! A config.json, kept as text.

use super::settings;
use crate::error::{Error, Result};
use crate::file::container::folder::{Folder, malformed};
use crate::file::container::json;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The longest config.json; the longest that tools write, with settings for each expert, have a
/// third of that.
const MAX_CONFIG: u64 = 1 << 20;

/// A config.json as text, which takes a small part of what its JSON would.
#[derive(Debug)]
pub(crate) struct Config {
    path: PathBuf,
    text: String,
    value: OnceLock<serde_json::Value>,
}

impl Config {
    /// The `config.json` of a checkpoint's folder, if there is one.
    pub fn of(folder: &Folder) -> Result<Option<Self>> {
        Self::open(folder, "config.json")
    }

    pub fn open(folder: &Folder, name: &str) -> Result<Option<Self>> {
        if !folder.has_or_lacks(name)? {
            return Ok(None);
        }
        let text = folder.text(name, MAX_CONFIG)?;
        let config = Self { text, path: folder.join(name), value: OnceLock::new() };
        config.parse::<settings::Anything>()?;
        // A list would pass for an object whose fields come in their order.
        if config.text.trim_ascii_start().starts_with('[') {
            let problem = "it is a list, an object belongs here".into();
            return Err(malformed(&config.path, "JSON", 0, problem));
        }
        Ok(Some(config))
    }

    /// What of it T asks for.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|e| json_error(&self.path, &self.text, &e))
    }

    /// The kind of model, as transformers names it: `llama`.
    pub fn model_type(&self) -> Option<String> {
        self.parse::<ModelType>().ok()?.model_type
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it, parsed when it is first asked for.
    pub fn value(&self) -> &serde_json::Value {
        // That it is JSON was found out when it was opened.
        self.value.get_or_init(|| serde_json::from_str(&self.text).unwrap_or_default())
    }
}

#[derive(serde::Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

pub(crate) fn json_error(path: &Path, text: &str, error: &serde_json::Error) -> Error {
    let (offset, problem) = json::fault(text, error);
    malformed(path, "JSON", offset, problem)
}
