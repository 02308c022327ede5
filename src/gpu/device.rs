//! Opening a device on an adapter, and what it can do as plain [`Caps`].

use super::adapters::Select;
use super::capability::Capability;
use super::tuning::TuningCache;
use crate::error::{Error, Result};
use crate::kernel::{Caps, Vendor};
use std::time::Duration;

/// How a [`Runtime`](super::Runtime) is opened. The defaults are right; the switches exist for
/// tests and for finding driver bugs.
///
/// ```
/// use qmatmul::gpu::{Capability, Options};
///
/// let without = vec![Capability::Subgroups, Capability::F16];
/// let options = Options { without, ..Options::default() };
/// assert!(!options.uses(Capability::F16) && options.uses(Capability::Int64));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Which adapter.
    pub select: Select,
    /// What is not used, whether the adapter has it or not.
    pub without: Vec<Capability>,
    /// Compile shaders with wgpu's run-time checks (bounds, endless loops). Ours do not need them.
    pub checked: bool,
    /// Where the fastest kernels of this adapter are remembered.
    pub tuning: TuningCache,
    /// Keep compiled pipelines on disk where the backend can.
    pub disk_cache: bool,
    /// Bytes of device memory that the buffers of this runtime may take together: weights,
    /// activations, results and what kernels
    /// need in between; not what the driver and the queue's writes need. `None` leaves it to the
    /// driver to refuse, which software drivers never do.
    pub memory_limit: Option<u64>,
    /// How long the device is waited for without a submission ending, before [`Error::TimedOut`].
    /// `None` is a minute, or ten on software adapters.
    pub timeout: Option<Duration>,
    /// Treat the adapter as this kind instead of what it says: `Some(true)` = software.
    pub software: Option<bool>,
    /// Pretend that one storage binding holds at most so many bytes.
    pub max_binding: Option<u64>,
    /// Pretend that one dimension of a dispatch holds at most so many workgroups.
    pub max_groups: Option<u32>,
    /// Pretend that loops stop after so many iterations.
    pub max_loops: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            select: Select::Best,
            without: vec![],
            checked: false,
            tuning: TuningCache::Disk,
            disk_cache: true,
            memory_limit: None,
            timeout: None,
            software: None,
            max_binding: None,
            max_groups: None,
            max_loops: None,
        }
    }
}

impl Options {
    /// True if this is used where the adapter has it.
    pub fn uses(&self, capability: Capability) -> bool {
        !self.without.contains(&capability)
    }
}

/// The features that qmatmul uses and `adapter` has. A host that opens the device itself asks for
/// them, and for [`wanted_limits`], beside its own; [`Runtime`](super::Runtime) opens its devices
/// with the same. Without one of them everything works, slower or unmeasured.
///
/// ```no_run
/// use qmatmul::{Options, Result, Runtime, gpu, wgpu};
///
/// async fn open(adapter: &wgpu::Adapter) -> Result<Runtime> {
///     let descriptor = wgpu::DeviceDescriptor {
///         required_features: gpu::wanted_features(adapter),
///         required_limits: gpu::wanted_limits(adapter),
///         ..Default::default()
///     };
///     let (device, queue) = adapter.request_device(&descriptor).await.expect("what it has");
///     Runtime::with_device(device, queue, adapter, &Options::default())
/// }
/// ```
///
/// No experimental feature is among them: wgpu refuses to open a device with one unless the host
/// has accepted, in an `unsafe` call, that such features may be unsound. That is for the host to
/// decide, and a descriptor as above must work on every adapter. See
/// [`wanted_experimental_features`] for them.
pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    adapter.features() & (used_features() - wgpu::Features::all_experimental_mask())
}

/// The experimental features that qmatmul uses and `adapter` offers in a form that it can use:
/// cooperative matrices of f16 with f32 sums, for batches of tokens whose activations may be
/// rounded. They are used where a probe has found that the device multiplies right with them.
///
/// ```no_run
/// use qmatmul::{gpu, wgpu};
///
/// fn descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
///     wgpu::DeviceDescriptor {
///         required_features: gpu::wanted_features(adapter) | gpu::wanted_experimental_features(adapter),
///         required_limits: gpu::wanted_limits(adapter),
///         // SAFETY: shaders that use them are qmatmul's alone, run after a probe.
///         experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
///         ..Default::default()
///     }
/// }
/// ```
pub fn wanted_experimental_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    match cooperative_edge(adapter) {
        Some(_) => Capability::Cooperative.features(),
        None => wgpu::Features::empty(),
    }
}

/// The limits that qmatmul asks of a device: the adapter's own. At WebGPU's defaults matrices above
/// 128 MiB are split over several buffers.
///
/// [`wanted_features`] has an example.
pub fn wanted_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    adapter.limits()
}

/// The features of all capabilities, those to measure time and to keep pipelines on disk.
fn used_features() -> wgpu::Features {
    let others = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
    Capability::ALL.iter().map(|c| c.features()).fold(others, std::ops::BitOr::bitor)
}

/// Opens a device with the adapter's own limits and the features that are used here. Experimental
/// features are for those only who use them.
pub(super) async fn open(adapter: &wgpu::Adapter, options: &Options) -> Result<(wgpu::Device, wgpu::Queue)> {
    let experimental = match options.uses(Capability::Cooperative) {
        true => wanted_experimental_features(adapter),
        false => wgpu::Features::empty(),
    };
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("qmatmul"),
        required_features: wanted_features(adapter) | experimental,
        required_limits: wanted_limits(adapter),
        experimental_features: match experimental.is_empty() {
            true => wgpu::ExperimentalFeatures::disabled(),
            // SAFETY: the one experimental feature that is asked for is used by shaders of our own,
            // after a probe.
            false => unsafe { wgpu::ExperimentalFeatures::enabled() },
        },
        ..Default::default()
    });
    request.await.map_err(|e| Error::Gpu { doing: opening(adapter), message: e.to_string() })
}

/// What is being done there, for errors.
pub(super) fn opening(adapter: &wgpu::Adapter) -> String {
    format!("opening a device on `{}`", adapter.get_info().name)
}

/// Edge of the largest square matrices that the adapter multiplies with f16 in and f32 sums.
///
/// Mesa's software driver offers them at every vector width, but its device fails at any other than
/// the usual one of 256 bits, where a subgroup has eight lanes.
pub(super) fn cooperative_edge(adapter: &wgpu::Adapter) -> Option<u32> {
    let (info, features) = (adapter.get_info(), adapter.features());
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    if !features.contains(needed)
        || (info.device_type == wgpu::DeviceType::Cpu && info.subgroup_max_size != 8)
    {
        return None;
    }
    let suits = |p: &wgpu::CooperativeMatrixProperties| {
        let types = (p.ab_type, p.cr_type);
        p.m_size == p.n_size
            && p.n_size == p.k_size
            && types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
    };
    let properties = adapter.cooperative_matrix_properties();
    properties.iter().filter(|p| suits(p) && [8, 16].contains(&p.m_size)).map(|p| p.m_size).max()
}

/// What the device can do, after the switches of `options`. Whether cooperative matrices work is
/// left to a probe.
pub(super) fn caps(device: &wgpu::Device, adapter: &wgpu::Adapter, options: &Options) -> Caps {
    let (info, limits, features) = (adapter.get_info(), device.limits(), device.features());
    let is_cpu = info.device_type == wgpu::DeviceType::Cpu;
    let mut caps = Caps {
        software: options.software.unwrap_or(is_cpu),
        vendor: vendor(&info),
        subgroup: Some((info.subgroup_min_size, info.subgroup_max_size)),
        cooperative: cooperative_edge(adapter),
        max_groups: lower(limits.max_compute_workgroups_per_dimension, options.max_groups).max(1),
        max_binding: lower(limits.max_storage_buffer_binding_size, options.max_binding),
        max_buffer: limits.max_buffer_size,
        binding_alignment: limits.min_storage_buffer_offset_alignment.max(16),
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_workgroup: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        // Mesa's software driver ends an invocation's loops after 65,535 iterations without a word.
        max_loops: options.max_loops.or(is_cpu.then_some(65_000)),
        ..Caps::everything()
    };
    let is_there = |c: Capability| options.uses(c) && features.contains(c.features());
    Capability::ALL.iter().filter(|c| !is_there(**c)).for_each(|c| c.take_out(&mut caps));
    caps
}

/// Who made the GPU: by its PCI number, where there is one. Metal has none, nor has Mesa's driver
/// for Apple's GPUs.
fn vendor(info: &wgpu::AdapterInfo) -> Vendor {
    match info.vendor {
        0x1002 => Vendor::Amd,
        0x106b => Vendor::Apple,
        0x10de => Vendor::Nvidia,
        0x5143 => Vendor::Qualcomm,
        0x8086 => Vendor::Intel,
        _ if info.name.contains("Apple") => Vendor::Apple,
        _ => Vendor::Other,
    }
}

/// How long the device may be silent.
pub(super) fn timeout(info: &wgpu::AdapterInfo, options: &Options) -> Duration {
    let is_cpu = info.device_type == wgpu::DeviceType::Cpu;
    options.timeout.unwrap_or(Duration::from_secs(if is_cpu { 600 } else { 60 }))
}

fn lower<T: Ord>(limit: T, pretended: Option<T>) -> T {
    match pretended {
        Some(pretended) => limit.min(pretended),
        None => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_that_are_used() {
        let used = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        assert_eq!(used_features(), used);
        // What `wanted_experimental_features` decides is all that is experimental.
        let experimental = used & wgpu::Features::all_experimental_mask();
        assert_eq!(experimental, Capability::Cooperative.features());
    }
}
