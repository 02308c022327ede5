//! Modules as other tools wrote them (`tests/golden/hub`), one a folder: `case.json` says what is
//! wanted, `expected.st` has the numbers.
#![allow(dead_code)]

use crate::common::{self, Golden};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::{Error, PackedTensor};
use serde_json::Value;
use std::path::PathBuf;

pub struct Case {
    pub name: String,
    folder: PathBuf,
    json: Value,
    pub expected: Golden,
}

impl Case {
    /// All of them but adapters, sorted.
    pub fn all() -> Vec<Self> {
        let folder = common::path("golden/hub");
        let entries = std::fs::read_dir(folder).expect("the cases are in the repository");
        let mut all: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        all.sort();
        all.into_iter().filter(|folder| !folder.join("adapter").exists()).filter_map(Self::open).collect()
    }

    fn open(folder: PathBuf) -> Option<Self> {
        let json: Value =
            serde_json::from_slice(&std::fs::read(folder.join("case.json")).expect("a case")).expect("JSON");
        json.get("adapters").is_none().then(|| Self {
            name: folder.file_name().expect("a name").to_string_lossy().into_owned(),
            expected: Golden::open(&folder.join("expected.st")),
            folder,
            json,
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.json.get(key).and_then(Value::as_str)
    }

    /// The weight it is about.
    pub fn tensor(&self) -> &str {
        self.text("tensor").expect("each case has one")
    }

    /// What a refusal must say, where there must be one.
    pub fn refused(&self) -> Option<&str> {
        (self.text("want") == Some("refused")).then(|| self.text("name").expect("a name"))
    }

    pub fn model(&self) -> Model {
        let path = self.text("file").map_or(self.folder.clone(), |file| self.folder.join(file));
        Model::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    pub fn packed(&self) -> Result<PackedTensor, Error> {
        let model = self.model();
        model.tensor(model.find(self.tensor())?)
    }

    /// Every weight as the tool has it, to the bit; by 1e-6 of the largest weight where halves are
    /// rounded on the way (gemv_fast), or the vector has one rounding for the two of f32.
    pub fn check_weights(&self, got: &[f32]) {
        let want = self.expected.f32s("w");
        let largest = want.iter().fold(0f32, |max, w| max.max(w.abs()));
        let rounds =
            ["awq-gemv-fast", "mlx-2bit"].contains(&&*self.name) || self.name.starts_with("hqq-axis0");
        let bound = if rounds { 1e-6 * largest } else { 0.0 };
        assert_eq!(got.len(), want.len(), "{}", self.name);
        let differs = |(got, want): &(&f32, &f32)| (*got - *want).abs() > bound || got.is_nan();
        let wrong = got.iter().zip(&want).filter(differs).count();
        let first = got.iter().zip(&want).enumerate().find(|(_, pair)| differs(pair));
        assert!(wrong == 0, "{}: {wrong} of {} weights differ, the first {first:?}", self.name, want.len());
    }
}
