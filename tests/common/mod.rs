//! What several test files need: the runtimes under test, and golden vectors.
#![allow(dead_code)]

use qmatmul::gpu::TuningCache;
use qmatmul::wgpu;
use qmatmul::{Options, Runtime};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

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

/// The repository: this file is a part of tests in more than one package.
pub fn root() -> &'static Path {
    let has_it = |folder: &&Path| folder.join("tests/common").is_dir();
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(has_it).expect("a folder of the repository")
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
    // `scripts/drivers.sh` adds them up.
    eprintln!("checks: {done}, failed: {}", failures.len());
    assert!(failures.is_empty(), "{} of {done} failed:\n{}", failures.len(), failures.join("\n"));
}

/// What failed, and how much was done.
pub type Tally = (Vec<String>, usize);

/// Pieces of work, each with a device of its own, two at a time: a software driver compiles with one core for a device.
pub fn side_by_side<T: Send>(pieces: impl IntoIterator<Item = T>, work: impl Fn(T) -> Tally + Sync) -> Tally {
    let pieces = Mutex::new(pieces.into_iter().collect::<Vec<_>>().into_iter());
    let next = || pieces.lock().expect("nothing fails with the lock held").next();
    let some = || std::iter::from_fn(next).map(&work).collect::<Vec<_>>();
    let tallies = std::thread::scope(|scope| {
        let threads = [scope.spawn(some), scope.spawn(some)];
        threads.map(|thread| thread.join().expect("it has said why"))
    });
    total(tallies.into_iter().flatten())
}

/// All of them together.
pub fn total(tallies: impl Iterator<Item = Tally>) -> Tally {
    let (failures, done): (Vec<_>, Vec<_>) = tallies.unzip();
    (failures.concat(), done.into_iter().sum())
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

/// A runtime on a device that its host has opened, with WebGPU's default limits and no feature at all: the least a host may bring.
pub fn on_a_host_device() -> Runtime {
    on_a_device_of(wgpu::Limits::default()).expect("enough for a plain device")
}

/// The same with other limits.
pub fn on_a_device_of(required_limits: wgpu::Limits) -> qmatmul::error::Result<Runtime> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    let adapter = adapters.first().expect("the tests need an adapter");
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a plain device");
    Runtime::with_device(device, queue, adapter, &Options::default())
}
