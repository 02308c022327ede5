//! The adapters of this machine: which there are, in what order, and which one is meant.

use super::capability::Capability;
use super::dx12::{self, ShaderCompiler};
use crate::error::{Error, Result};

/// Which adapter to take.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Select {
    /// The first of [`adapters`], which is the best. `WGPU_ADAPTER_NAME` narrows the choice to
    /// names that contain it.
    #[default]
    Best,
    /// The adapter at this index of [`adapters`].
    Number(usize),
    /// Part of a name, in any case, that one GPU has: `4090`. A backend narrows it, before a colon
    /// or alone: `dx12:radeon`, `vulkan`, `metal`. Of a GPU that several backends list the first in
    /// [`adapters`] is taken.
    Name(String),
}

impl std::str::FromStr for Select {
    type Err = std::convert::Infallible;

    /// Digits are an index of [`adapters`], however many, everything else (part of) a name.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More than a usize holds are no adapter's either.
        Ok(if is_number { Self::Number(text.parse().unwrap_or(usize::MAX)) } else { Self::Name(text.into()) })
    }
}

/// An adapter, in words and numbers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// The driver's name for the device.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12`, …
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, …
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// What compiles the shaders for the driver, where the backend leaves a choice: under DirectX
    /// 12.
    pub compiler: Option<ShaderCompiler>,
    /// Features that matter here and are present.
    pub features: Vec<&'static str>,
    /// Smallest and largest subgroup, where there are subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// Bytes of one storage binding; larger matrices are split.
    pub max_binding: u64,
    /// Bytes of one buffer.
    pub max_buffer: u64,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub max_workgroup: u32,
}

impl std::fmt::Display for AdapterSummary {
    /// Name, backend, driver and compiler, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.name, self.backend)?;
        if !self.driver.is_empty() {
            write!(f, ", {}", self.driver)?;
        }
        match &self.compiler {
            Some(compiler) => write!(f, ", {compiler})"),
            None => write!(f, ")"),
        }
    }
}

/// Features that are used beside those of a [`Capability`], by name.
const OTHER_FEATURES: [(&str, wgpu::Features); 2] =
    [("timestamps", wgpu::Features::TIMESTAMP_QUERY), ("pipeline-cache", wgpu::Features::PIPELINE_CACHE)];

/// The names of those that are there, experimental ones last.
fn feature_names(there: wgpu::Features) -> Vec<&'static str> {
    let all = Capability::ALL.iter().filter_map(|c| c.feature());
    let (experimental, mut all): (Vec<_>, Vec<_>) =
        all.partition(|(_, f)| f.intersects(wgpu::Features::all_experimental_mask()));
    all.extend(OTHER_FEATURES.into_iter().chain(experimental));
    all.iter().filter(|(_, f)| there.contains(*f)).map(|(name, _)| *name).collect()
}

/// Every adapter of this machine, the best first: discrete before integrated before virtual before
/// software, and of these Vulkan or Metal before DirectX 12, which lacks cooperative matrices and,
/// without Microsoft's DXC, subgroups, f16 and 64-bit integers. [`Select::Number`] counts in this
/// order.
///
/// Under DirectX 12 shaders are compiled by DXC where `dxcompiler.dll` lies beside the program or
/// on the PATH, for the devices that it serves, and by FXC otherwise; `WGPU_DX12_COMPILER=fxc` or
/// `dxc` decides it. A host that wants something else opens the device itself
/// ([`Runtime::with_device`](super::Runtime::with_device)).
#[cfg(not(target_family = "wasm"))]
pub fn adapters() -> Vec<AdapterSummary> {
    super::waiting::block_on(enumerate()).iter().map(summary).collect()
}

/// [`adapters`] for an async caller. A browser tells of one adapter, or of none.
pub async fn adapters_async() -> Vec<AdapterSummary> {
    let all = super::waiting::in_background(async { Ok(enumerate().await.iter().map(summary).collect()) });
    all.await.unwrap_or_default()
}

/// What a person should know about these adapters: what is missing, and what would bring it.
pub fn advice(adapters: &[AdapterSummary]) -> Vec<String> {
    let is_fxc = |a: &AdapterSummary| a.compiler.as_ref().is_some_and(ShaderCompiler::is_fxc);
    let numbers: Vec<_> = (0..adapters.len()).filter(|i| is_fxc(&adapters[*i])).collect();
    dx12::advice(&numbers)
}

pub(super) fn summary(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let features = adapter.features();
    AdapterSummary {
        name: info.name.clone(),
        backend: format!("{:?}", info.backend),
        kind: format!("{:?}", info.device_type),
        driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
        compiler: dx12::compiler(adapter),
        features: feature_names(features),
        subgroup: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_workgroup: limits.max_compute_invocations_per_workgroup,
    }
}

async fn enumerate() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let mut adapters = dx12::enumerate(backends).await;
    adapters.retain(|a| a.get_info().backend != wgpu::Backend::Noop);
    adapters.sort_by_key(|adapter| {
        let info = adapter.get_info();
        rank(info.device_type, info.backend)
    });
    adapters
}

/// The order of [`adapters`].
fn rank(kind: wgpu::DeviceType, backend: wgpu::Backend) -> (u8, u8) {
    let kind = match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let backend = match backend {
        wgpu::Backend::Vulkan | wgpu::Backend::Metal => 0,
        wgpu::Backend::Dx12 => 1,
        _ => 2,
    };
    (kind, backend)
}

/// The adapter that `select` means.
pub(super) async fn choose(select: &Select) -> Result<wgpu::Adapter> {
    let mut adapters = enumerate().await;
    if adapters.is_empty() {
        return Err(Error::NoAdapter(no_adapter_hint()));
    }
    let from_env = std::env::var("WGPU_ADAPTER_NAME").ok().filter(|name| !name.is_empty());
    if *select == Select::Best && from_env.is_none() {
        return Ok(adapters.swap_remove(0)); // the others need not be asked what they can do
    }
    let summaries: Vec<_> = adapters.iter().map(summary).collect();
    Ok(adapters.swap_remove(index(select, from_env.as_deref(), &summaries)?))
}

/// The index of the adapter that `select` means.
fn index(select: &Select, from_env: Option<&str>, adapters: &[AdapterSummary]) -> Result<usize> {
    let fail = |what: String, which: &[usize]| {
        let list = which.iter().map(|i| format!("{i} {}", adapters[*i])).collect::<Vec<_>>().join("; ");
        Err(Error::NoAdapter(format!("{what}: {list}")))
    };
    let all: Vec<usize> = (0..adapters.len()).collect();
    let none = |wanted: &str| fail(format!("no adapter matches `{wanted}`; there are"), &all);
    match select {
        Select::Best => match from_env {
            None => Ok(0),
            Some(name) => matching(name, adapters).first().map_or_else(|| none(name), |at| Ok(*at)),
        },
        Select::Number(number) if *number < adapters.len() => Ok(*number),
        Select::Number(number) => {
            let count = match adapters.len() {
                1 => "there is 1".to_owned(),
                count => format!("there are {count}"),
            };
            fail(format!("no adapter has the number {number}; {count}"), &all)
        }
        Select::Name(text) => {
            let found = matching(text, adapters);
            let Some(&first) = found.first() else { return none(text) };
            // The same GPU under another backend is no other GPU.
            let rivals: Vec<_> =
                found.into_iter().filter(|i| adapters[*i].backend == adapters[first].backend).collect();
            match rivals.len() > 1 && backend_and_name(text).1.is_some() {
                true => fail(format!("`{text}` matches several adapters, take a number"), &rivals),
                false => Ok(first),
            }
        }
    }
}

/// The indices of the adapters that a backend, a name, or both mean.
fn matching(text: &str, adapters: &[AdapterSummary]) -> Vec<usize> {
    let (backend, name) = backend_and_name(text);
    let name = name.unwrap_or_default().to_lowercase();
    let suits = |a: &AdapterSummary| {
        backend.is_none_or(|b| a.backend.eq_ignore_ascii_case(b)) && a.name.to_lowercase().contains(&name)
    };
    (0..adapters.len()).filter(|i| suits(&adapters[*i])).collect()
}

/// `dx12`, `dx12:radeon`, `radeon`: the backend, and what of the name is given.
fn backend_and_name(text: &str) -> (Option<&str>, Option<&str>) {
    let is_backend =
        |text: &str| ["vulkan", "metal", "dx12", "gl"].iter().any(|b| b.eq_ignore_ascii_case(text));
    match text.split_once(':') {
        Some((backend, name)) if is_backend(backend) => {
            (Some(backend), Some(name).filter(|name| !name.is_empty()))
        }
        _ if is_backend(text) => (Some(text), None),
        _ => (None, Some(text)),
    }
}

/// The adapter of this name, backend and compiler, which was there before: of several, the one that
/// is selected.
pub(super) async fn again(select: &Select, before: &AdapterSummary) -> Result<wgpu::Adapter> {
    let is_it = |adapter: &wgpu::Adapter| {
        let now = summary(adapter);
        (&now.name, &now.backend, &now.compiler) == (&before.name, &before.backend, &before.compiler)
    };
    if let Some(selected) = choose(select).await.ok().filter(is_it) {
        return Ok(selected);
    }
    enumerate().await.into_iter().find(is_it).ok_or_else(|| {
        let AdapterSummary { name, backend, .. } = before;
        Error::NoAdapter(format!("the adapter `{name}` ({backend}) is gone"))
    })
}

fn no_adapter_hint() -> String {
    if cfg!(target_family = "wasm") {
        return "the browser offers no WebGPU adapter: it has no WebGPU, or it is switched off, or it takes \
                none of this machine's GPUs"
            .into();
    }
    let install = match std::env::consts::OS {
        "linux" => {
            "install a Vulkan driver for your GPU, or a software one: \
             on Debian and Ubuntu `apt-get install libvulkan1 mesa-vulkan-drivers`"
        }
        "macos" => "Metal needs macOS 10.15 or later",
        _ => "install a Vulkan or DirectX 12 driver",
    };
    // What narrows the search may be all that is wrong.
    let set = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.map(|value| format!("{name}={value}"))
    };
    let narrowed: Vec<_> = ["WGPU_BACKEND", dx12::VARIABLE].into_iter().filter_map(set).collect();
    match (dx12::obstacle(), &narrowed[..]) {
        (Some(obstacle), _) => format!("no GPU adapter found; {obstacle}"),
        (None, []) => format!("no GPU adapter found, not even a software one; {install}"),
        (None, _) => {
            let narrowed = narrowed.join(" and ");
            format!("no GPU adapter found with {narrowed} in the environment; look without, or {install}")
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An adapter of which nothing but this is known.
    pub fn adapter(name: &str, backend: &str) -> AdapterSummary {
        AdapterSummary {
            name: name.into(),
            backend: backend.into(),
            kind: "DiscreteGpu".into(),
            driver: "1.2".into(),
            compiler: None,
            features: vec![],
            subgroup: None,
            max_binding: 0,
            max_buffer: 0,
            max_workgroup_memory: 0,
            max_workgroup: 0,
        }
    }

    /// A machine with two GPUs, one of them twice, under two backends, and a software adapter.
    fn machine() -> Vec<AdapterSummary> {
        vec![
            adapter("AMD Radeon RX 7900 XTX", "Vulkan"),
            adapter("NVIDIA GeForce RTX 4090", "Vulkan"),
            adapter("AMD Radeon RX 7900 XTX", "Dx12"),
            adapter("NVIDIA GeForce RTX 4090", "Dx12"),
            adapter("Microsoft Basic Render Driver", "Dx12"),
        ]
    }

    fn chosen(text: &str) -> std::result::Result<usize, String> {
        let Ok(select) = text.parse();
        index(&select, None, &machine()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_numbers_and_backends_choose_an_adapter() {
        for (text, at) in [
            ("0", 0),
            ("3", 3),
            ("radeon", 0),
            ("RTX 4090", 1),
            ("dx12:radeon", 2),
            ("DX12:geforce", 3),
            ("vulkan:4090", 1),
            ("dx12", 2),
            ("dx12:", 2),
            ("vulkan", 0),
            ("basic", 4),
        ] {
            assert_eq!(chosen(text), Ok(at), "{text}");
        }
        assert_eq!(index(&Select::Best, None, &machine()).expect("the first"), 0);
        assert_eq!(index(&Select::Best, Some("rtx"), &machine()).expect("named"), 1);
        assert_eq!(index(&Select::Best, Some("r"), &machine()).expect("the first of several"), 0);
    }

    #[test]
    fn what_matches_no_adapter_or_several_is_an_error_that_lists_them() {
        for (text, parts) in [
            ("4090", vec!["number 4090; there are 5: 0 AMD", "4 Microsoft Basic Render Driver (Dx12, 1.2)"]),
            // Names hold a 7 and a 0, but digits are no names.
            ("7", vec!["no adapter has the number 7"]),
            (" 79 ", vec!["no adapter has the number 79"]),
            ("79007900790079007900790079", vec!["no adapter has the number"]),
            ("arc", vec!["no adapter matches `arc`", "0 AMD"]),
            ("metal", vec!["no adapter matches `metal`"]),
            ("vulkan:basic", vec!["no adapter matches `vulkan:basic`"]),
            ("r", vec!["`r` matches several adapters, take a number: 0 AMD", "1 NVIDIA"]),
            ("dx12:rtx 40", vec![]),
        ] {
            match chosen(text) {
                Err(message) => parts.iter().for_each(|p| assert!(message.contains(p), "{text}: {message}")),
                Ok(_) => assert!(parts.is_empty(), "{text}"),
            }
        }
        let error = index(&Select::Best, Some("arc"), &machine()).expect_err("no such adapter");
        assert!(error.to_string().contains("`arc`"), "{error}");
    }

    #[test]
    fn features_are_listed_by_name() {
        let known = ["subgroup", "f16", "int64", "timestamps", "pipeline-cache", "cooperative-matrix"];
        let mut names = feature_names(wgpu::Features::all());
        names.retain(|name| known.contains(name));
        assert_eq!(names, known);
        assert!(feature_names(wgpu::Features::empty()).is_empty());
    }

    #[test]
    fn backends_with_more_features_come_first_among_equals() {
        use wgpu::{Backend, DeviceType};
        let mut all = [
            (DeviceType::Cpu, Backend::Vulkan),
            (DeviceType::DiscreteGpu, Backend::Dx12),
            (DeviceType::IntegratedGpu, Backend::Vulkan),
            (DeviceType::DiscreteGpu, Backend::Vulkan),
        ];
        all.sort_by_key(|(kind, backend)| rank(*kind, *backend));
        assert_eq!(
            all,
            [
                (DeviceType::DiscreteGpu, Backend::Vulkan),
                (DeviceType::DiscreteGpu, Backend::Dx12),
                (DeviceType::IntegratedGpu, Backend::Vulkan),
                (DeviceType::Cpu, Backend::Vulkan),
            ]
        );
    }
}
