//! What several test files need: the runtimes under test, and golden vectors.
#![allow(dead_code)]

use qmatmul::gpu::TuningCache;
use qmatmul::{Options, Runtime};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One way to run: the switches of a runtime, by name.
pub struct Variant {
    pub name: &'static str,
    software: bool,
    subgroups: bool,
    cell: OnceLock<Runtime>,
}

const fn variant(name: &'static str, software: bool, subgroups: bool) -> Variant {
    Variant { name, software, subgroups, cell: OnceLock::new() }
}

/// Both families of kernels, with and without subgroup operations, whatever the adapter is.
pub static VARIANTS: [Variant; 4] = [
    variant("software", true, true),
    variant("software, no subgroups", true, false),
    variant("gpu", false, true),
    variant("gpu, no subgroups", false, false),
];

impl Variant {
    /// The runtime, opened once per process. Fails the test if there is no adapter: a test that cannot run has not passed.
    pub fn runtime(&self) -> &Runtime {
        self.cell.get_or_init(|| open(&self.options()))
    }

    pub fn options(&self) -> Options {
        Options {
            software: Some(self.software),
            subgroups: self.subgroups,
            tuning: TuningCache::Off,
            ..Options::default()
        }
    }
}

/// A runtime of its own for a test with special switches.
pub fn open(options: &Options) -> Runtime {
    let runtime =
        Runtime::with_options(options).expect("the tests need a GPU adapter, a software one will do");
    let adapter = runtime.adapter();
    eprintln!("adapter: {} ({}, {})", adapter.name, adapter.backend, adapter.driver);
    runtime
}

pub fn path(below_tests: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(below_tests)
}

/// The real model file of the demo.
pub fn model_path() -> PathBuf {
    path("data/storybook-3.7M-Q4_0.gguf")
}

/// One file of independent truth.
pub struct Golden {
    pub name: String,
    bytes: Vec<u8>,
}

impl Golden {
    /// All files of a folder below `tests/golden`, sorted.
    pub fn folder(name: &str) -> Vec<Self> {
        let folder = path("golden").join(name);
        let entries = std::fs::read_dir(&folder).expect("the golden vectors are in the repository");
        let mut all: Vec<Self> = entries
            .map(|e| e.expect("readable folder").path())
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .map(|p| Self {
                name: p.file_stem().expect("has a name").to_string_lossy().into_owned(),
                bytes: std::fs::read(&p).expect("readable file"),
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Shape and little-endian bytes of a tensor.
    pub fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a golden vector is a safetensors file");
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        (view.shape().to_vec(), view.data().to_vec())
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).is_ok_and(|f| f.tensor(name).is_ok())
    }

    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.tensor(name).1.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn f64s(&self, name: &str) -> Vec<f64> {
        self.tensor(name).1.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }
}

/// Fails with all failures listed, not the first.
pub fn report(failures: &[String], done: usize) {
    assert!(done > 0, "nothing was tested");
    assert!(failures.is_empty(), "{} of {done} failed:\n{}", failures.len(), failures.join("\n"));
}
