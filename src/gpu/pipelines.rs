//! Compiled pipelines: one per (kernel, configuration, format, its constants), kept in memory, and
//! on disk where the backend can.

use super::bind;
use super::device::Options;
use super::errors::DeviceErrors;
use super::hooks::Point;
use super::host;
use crate::error::{Error, Result};
use crate::kernel::compose::{self, Declared, Source};
use crate::kernel::shard::DeviceLayout;
use crate::kernel::{Kernel, KernelConfig};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(super) type Key = (&'static str, &'static str, (bool, u32, bool), Vec<(&'static str, u32)>, KernelConfig);
/// Locked while it is compiled, so that others who want the same wait for it instead of compiling
/// it too.
type Entry = Arc<Mutex<Option<Arc<Compiled>>>>;

/// A kernel that is compiled for a layout.
pub(super) struct Cell {
    pub kernel: &'static Kernel,
    pub config: KernelConfig,
    pub layout: Arc<DeviceLayout>,
}

/// A pipeline, and what it binds.
pub(super) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub bindings: Vec<Declared>,
}

/// What a layout is made for.
#[derive(Clone)]
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// The pipelines of one device.
pub(super) struct Pipelines {
    /// By what they bind.
    layouts: Mutex<HashMap<Vec<Declared>, Layout>>,
    entries: Mutex<HashMap<Key, Entry>>,
    count: AtomicUsize,
    /// How many of them the file has.
    saved: Mutex<usize>,
    disk: Option<DiskCache>,
    checked: bool,
}

impl Pipelines {
    /// # Errors
    /// [`Error::LimitExceeded`] if a shader may have fewer storage buffers than are bound, or the
    /// device's errors.
    pub fn new(
        device: &wgpu::Device,
        info: &wgpu::AdapterInfo,
        errors: &DeviceErrors,
        options: &Options,
    ) -> Result<Self> {
        let limit = u64::from(device.limits().max_storage_buffers_per_shader_stage);
        if limit < STORAGE_BUFFERS {
            let what = "the number of storage buffers of a shader".into();
            return Err(Error::LimitExceeded { what, wanted: STORAGE_BUFFERS, limit });
        }
        let open = || options.disk_cache.then(|| DiskCache::open(device, info)).flatten();
        let disk = errors.catch_errors(device, || "opening the device".into(), 0, open)?;
        Ok(Self {
            layouts: Mutex::default(),
            entries: Mutex::default(),
            count: AtomicUsize::new(0),
            saved: Mutex::new(0),
            disk,
            checked: options.checked,
        })
    }

    /// True if it was compiled before.
    pub fn has(&self, key: &Key) -> bool {
        let entry = lock(&self.entries).get(key).cloned();
        entry.is_some_and(|entry| lock(&entry).is_some())
    }

    /// The pipeline of one cell, compiled at first use.
    pub fn get(
        &self,
        device: &wgpu::Device,
        errors: &DeviceErrors,
        kernel: &'static Kernel,
        config: &KernelConfig,
        layout: &DeviceLayout,
    ) -> Result<Arc<Compiled>> {
        let entry = lock(&self.entries).entry(key(kernel, config, layout)).or_default().clone();
        let mut pipeline = lock(&entry);
        if let Some(pipeline) = &*pipeline {
            return Ok(pipeline.clone());
        }
        let new = self.compile(device, errors, kernel, config, layout, &entry)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(pipeline.insert(Arc::new(new)).clone())
    }

    /// How many were compiled so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Writes the driver's cache to disk if something was compiled since. A cache that cannot be
    /// written is none.
    pub fn save(&self) {
        let (Some(disk), mut saved) = (&self.disk, lock(&self.saved)) else { return };
        let count = self.count();
        if count > *saved {
            disk.save().unwrap_or_else(|e| log::debug!("pipeline cache not saved: {e}"));
            *saved = count;
        }
    }

    fn compile(
        &self,
        device: &wgpu::Device,
        errors: &DeviceErrors,
        kernel: &Kernel,
        config: &KernelConfig,
        layout: &DeviceLayout,
        #[cfg_attr(not(target_family = "wasm"), expect(unused_variables))] entry: &Entry,
    ) -> Result<Compiled> {
        let mut source = compose::compose(kernel, config, layout);
        errors.at(Point::Compiling(&mut source.text));
        let label = label(kernel, config, layout);
        let bindings = source.bindings();
        let (source, made) = (Arc::new(source), Arc::new(OnceLock::new()));
        let (composed, failed) = (source.clone(), made.clone());
        #[cfg(target_family = "wasm")]
        let entry = entry.clone();
        let explain = async move |message: String| {
            // It was kept before it was known that it failed.
            #[cfg(target_family = "wasm")]
            lock(&entry).take();
            located(&failed, &composed, message).await
        };
        let doing = || format!("compiling {} for {}", kernel.name, layout.format.name);
        let call = || {
            let module = made.get_or_init(|| self.module(device, &label, &source));
            let layout = self.layout(device, &bindings);
            let pipeline = self.pipeline(device, &label, module, &layout.pipeline);
            Compiled { pipeline, layout: layout.group, bindings }
        };
        errors.catch_explained(device, doing, 0, call, explain)
    }

    fn layout(&self, device: &wgpu::Device, bindings: &[Declared]) -> Layout {
        let new = || {
            let group = bind::layout(device, "qmatmul", bindings);
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("qmatmul"),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            Layout { group, pipeline }
        };
        lock(&self.layouts).entry(bindings.to_vec()).or_insert_with(new).clone()
    }

    fn module(&self, device: &wgpu::Device, label: &str, source: &Source) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(source.text.as_str().into()),
        };
        match self.checked {
            true => device.create_shader_module(descriptor),
            // SAFETY: our shaders index their buffers within the bounds that `plan` computes and
            // their loops end.
            false => unsafe {
                device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            },
        }
    }

    fn pipeline(
        &self,
        device: &wgpu::Device,
        label: &str,
        module: &wgpu::ShaderModule,
        layout: &wgpu::PipelineLayout,
    ) -> wgpu::ComputePipeline {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(layout),
            module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.disk.as_ref().map(|disk| &disk.cache),
        })
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.save();
    }
}

/// What the compiler says of a shader, with the file and line where it says it; the message as it is
/// if it names no line.
async fn located(module: &OnceLock<wgpu::ShaderModule>, source: &Source, message: String) -> String {
    let at = |line: usize, message: &str| {
        let (path, line) = source.locate(line);
        format!("{path}:{line}: {message}")
    };
    // A browser's message may hold the place, `:12:5 error` of Tint.
    #[cfg(target_family = "wasm")]
    if let Some(line) = line_of(&message) {
        return at(line, &message);
    }
    let Some(module) = module.get() else { return message };
    let info = module.get_compilation_info().await;
    let line = |m: &wgpu::CompilationMessage| m.location.map(|at| at.line_number as usize);
    let found = info.messages.iter().find_map(|m| Some((line(m)?, &m.message)));
    found.map_or(message, |(line, message)| at(line, message))
}

/// The first `:LINE:COLUMN` of a message.
#[cfg(any(test, target_family = "wasm"))]
fn line_of(message: &str) -> Option<usize> {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (text[..digits].parse::<usize>().ok(), digits)
    };
    message.match_indices(':').find_map(|(at, _)| {
        let rest = &message[at + 1..];
        let (line, digits) = number(rest);
        let (column, _) = number(rest[digits..].strip_prefix(':')?);
        line.filter(|line| *line > 0 && column.is_some())
    })
}

/// `gemv Q4_K 4x64s n=1 w=128`: kernel, format, variant, the tokens that it is compiled for, and
/// the weights that a lane multiplies in one pass of its main loop, so that tools which watch the
/// driver can tell pipelines apart.
fn label(kernel: &Kernel, config: &KernelConfig, layout: &DeviceLayout) -> String {
    let mut label = kernel.name.to_owned();
    if kernel.operation.decodes() {
        label = format!("{label} {}", layout.format.name);
    }
    if !config.variant.is_empty() {
        label = format!("{label} {} n={}", config.variant, config.columns);
    }
    if config.lane_weights > 0 {
        label = format!("{label} w={}", config.lane_weights);
    }
    label
}

/// What a pipeline depends on. Kernels that decode nothing are the same for all formats.
pub(super) fn key(kernel: &'static Kernel, config: &KernelConfig, layout: &DeviceLayout) -> Key {
    match kernel.operation.decodes() {
        true => (
            kernel.name,
            layout.format.name,
            (layout.ordered, layout.lanes, layout.book.is_some()),
            layout.constants.clone(),
            config.clone(),
        ),
        false => (kernel.name, "", (false, 0, false), vec![], config.clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Storage buffers of the kernel that has the most: two views of a weight, its codebook and row
/// scales, activations, results, and their experts, list or gate.
const STORAGE_BUFFERS: u64 = 7;

/// The driver's own cache of compiled pipelines, as a file.
struct DiskCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
}

impl DiskCache {
    fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = host::cache_folder()?.join(wgpu::util::pipeline_cache_key(info)?);
        let data = std::fs::read(&path).ok();
        // SAFETY: the file was written by `save` under a name made of vendor and device; with
        // `fallback` the driver and wgpu verify its header and start empty if it does not fit.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("qmatmul"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(Self { cache, path })
    }

    fn save(&self) -> Result<()> {
        let Some(data) = self.cache.get_data() else { return Ok(()) };
        let folder = self.path.parent().expect("the path was made by join");
        std::fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("writing in", folder))?;
        std::io::Write::write_all(&mut file, &data).map_err(Error::io("writing", &self.path))?;
        file.persist(&self.path).map_err(|e| Error::io("writing", &self.path)(e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn messages_of_browsers_say_where() {
        let tint = "Error while parsing WGSL: :12:5 error: unresolved value 'nothing'\n    nothing;\n";
        let naga = "Shader 'dequantize Q4_0' parsing error: no definition in scope\n  ┌─ wgsl:7:31\n  │";
        assert_eq!((line_of(tint), line_of(naga)), (Some(12), Some(7)));
        for none in ["", ":", "a: b: c", "at 12:5x", ":0:1", "::1:", ":99999999999999999999:1"] {
            assert_eq!(line_of(none), None, "{none}");
        }
        assert_eq!(line_of("x:y:3:4"), Some(3));
    }
}
