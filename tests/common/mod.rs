//! What several test binaries need without a device: paths, golden vectors, files that are written.
#![allow(dead_code)]

use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository: this file is a part of tests in more than one package.
pub fn root() -> &'static Path {
    let has_it = |folder: &&Path| folder.join("tests/common").is_dir();
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(has_it).expect("a folder of the repository")
}

/// Gives a run of the command a cache of its own for what it measures; what Mesa has compiled is
/// for all.
pub fn own_cache<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    if let (Some(cache), None) = (cache, std::env::var_os("MESA_SHADER_CACHE_DIR")) {
        command.env("MESA_SHADER_CACHE_DIR", cache);
    }
    command.env("XDG_CACHE_HOME", folder)
}

pub fn path(below_tests: &str) -> PathBuf {
    root().join("tests").join(below_tests)
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
            .map(|p| Self::open(&p))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub fn open(path: &Path) -> Self {
        let name = path.file_stem().expect("has a name").to_string_lossy().into_owned();
        Self { name, bytes: std::fs::read(path).expect("readable file") }
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
    // `scripts/drivers.sh` adds them up.
    eprintln!("checks: {done}, failed: {}", failures.len());
    assert!(failures.is_empty(), "{} of {done} failed:\n{}", failures.len(), failures.join("\n"));
}

/// A tensor to be written: name, type, shape, bytes.
pub type Raw = (String, safetensors::Dtype, Vec<usize>, Vec<u8>);

/// A matrix as F32.
pub fn f32_tensor(name: &str, shape: &[usize], values: &[f32]) -> Raw {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    (name.into(), safetensors::Dtype::F32, shape.to_vec(), bytes)
}

pub fn write_tensors(path: &Path, tensors: &[Raw]) {
    // The crate takes views of borrowed bytes only.
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    safetensors::serialize_to_file(views, None, path).expect("a new file");
}

/// A file of NumPy's, version 1, of this dictionary.
pub fn npy(header: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header, data].concat()
}

/// The least that a configuration of PEFT holds.
pub fn lora_config(rank: usize, alpha: f64) -> serde_json::Value {
    serde_json::json!({"peft_type": "LORA", "r": rank, "lora_alpha": alpha})
}

/// Random a and b of a module `[m, k]`, as large together as a weight of normal numbers.
pub fn lora_tensors(module: &str, (m, k): (usize, usize), rank: usize, seed: u64) -> Vec<Raw> {
    let matrix = |side: &str, shape: [usize; 2], seed: u64| {
        let values = qmatmul::check::activations(shape[0] * shape[1], seed);
        f32_tensor(&format!("base_model.model.{module}.lora_{side}.weight"), &shape, &values)
    };
    vec![matrix("A", [rank, k], seed), matrix("B", [m, rank], seed + 1)]
}

/// A folder as PEFT saves it.
pub fn write_adapter(folder: &Path, config: &serde_json::Value, tensors: &[Raw]) {
    std::fs::create_dir_all(folder).expect("a new folder");
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).expect("a new file");
    write_tensors(&folder.join("adapter_model.safetensors"), tensors);
}

/// Bytes that the kernel counts for this process: `VmRSS`, `VmSize`, …
pub fn status(what: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
