//! What is particular to DirectX 12: it has two compilers, and wgpu does not say which of them it
//! took.
//!
//! FXC comes with Windows and knows shader model 5.1: neither subgroups nor f16 nor 64-bit
//! integers. DXC has them all, is faster, and has to be brought along as `dxcompiler.dll`. wgpu
//! takes DXC where it finds the library, and then offers no adapter that lacks shader model 6.

/// The variable of the environment by which wgpu is told the compiler.
pub const VARIABLE: &str = "WGPU_DX12_COMPILER";

/// What compiles shaders for DirectX 12.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ShaderCompiler {
    /// `FXC` or `DXC`.
    pub name: &'static str,
    /// The shader model, as in `5.1`: that of FXC, or with DXC the highest of the device (DXC 1.8
    /// compiles for 6.8 at most). `6` where the device does not say.
    pub shader_model: String,
}

impl ShaderCompiler {
    /// True for the one that comes with Windows.
    pub(super) fn is_fxc(&self) -> bool {
        self.name == "FXC"
    }
}

impl std::fmt::Display for ShaderCompiler {
    /// `FXC, shader model 5.1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, shader model {}", self.name, self.shader_model)
    }
}

/// Every adapter of these backends. Those of DirectX 12 that DXC does not serve, or all if it does
/// not work, are there with FXC, unless the environment decides.
pub(super) async fn enumerate(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let dx12 = backends & wgpu::Backends::DX12;
    if !cfg!(windows) || dx12.is_empty() {
        return instance(backends, |_| ()).await;
    }
    if refused().is_some() {
        return instance(backends - dx12, |_| ()).await;
    }
    let mut adapters = instance(backends, |_| ()).await;
    let is_dx12 = |a: &wgpu::Adapter| a.get_info().backend == wgpu::Backend::Dx12;
    let automatic = matches!(wgpu::Dx12Compiler::from_env().unwrap_or_default(), wgpu::Dx12Compiler::Auto);
    if automatic && (finds_dxc() || !adapters.iter().any(is_dx12)) {
        let with_fxc = instance(dx12, |descriptor| {
            descriptor.backend_options.dx12.shader_compiler = wgpu::Dx12Compiler::Fxc;
        })
        .await;
        let there: Vec<_> = adapters.iter().filter(|a| is_dx12(a)).map(identity).collect();
        adapters.extend(with_fxc.into_iter().filter(|a| !there.contains(&identity(a))));
    }
    adapters
}

/// The adapters of an instance with these backends and the options of the environment, changed by
/// `change`.
async fn instance(
    backends: wgpu::Backends,
    change: impl FnOnce(&mut wgpu::InstanceDescriptor),
) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    };
    change(&mut descriptor);
    let instance = wgpu::Instance::new(descriptor);
    if cfg!(target_family = "wasm") {
        // A browser tells of one, and chooses it by this.
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.into_iter().collect();
    }
    instance.enumerate_adapters(backends).await
}

/// What tells a GPU from the others of this backend.
fn identity(adapter: &wgpu::Adapter) -> (String, u32, u32, String) {
    let info = adapter.get_info();
    (info.name, info.vendor, info.device, info.device_pci_bus_id)
}

/// Why the environment's compiler is not tried: wgpu panics where DXC is not linked into the
/// program. Where a host has linked it, wgpu takes it by itself.
pub(super) fn refused() -> Option<String> {
    let linked = matches!(wgpu::Dx12Compiler::from_env(), Some(wgpu::Dx12Compiler::StaticDxc));
    (cfg!(windows) && linked).then(|| {
        format!("{VARIABLE}=staticdxc asks for a DXC inside this program, which has none: unset it, or take `dxc` or `fxc`")
    })
}

/// Why the environment's compiler leaves no adapter of DirectX 12.
pub(super) fn obstacle() -> Option<String> {
    let dxc = matches!(wgpu::Dx12Compiler::from_env(), Some(wgpu::Dx12Compiler::DynamicDxc { .. }));
    let missing = (cfg!(windows) && dxc).then(|| {
        format!(
            "{VARIABLE}=dxc needs `dxcompiler.dll` in {} or on the PATH, and a device of shader model 6: unset it to have FXC otherwise",
            folder_of_the_program()
        )
    });
    refused().or(missing)
}

/// The compiler of an adapter; none under other backends. Only DXC gives an adapter subgroups, f16
/// or 64-bit integers.
pub(super) fn compiler(adapter: &wgpu::Adapter) -> Option<ShaderCompiler> {
    if adapter.get_info().backend != wgpu::Backend::Dx12 {
        return None;
    }
    let of_dxc = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::SHADER_INT64;
    Some(match adapter.features().intersects(of_dxc) {
        true => ShaderCompiler { name: "DXC", shader_model: shader_model(adapter) },
        false => ShaderCompiler { name: "FXC", shader_model: "5.1".into() },
    })
}

/// What to do about the adapters of these numbers, for which FXC compiles, and about a variable
/// that hides adapters.
pub(super) fn advice(numbers: &[usize]) -> Vec<String> {
    let what = match numbers.is_empty() {
        true => None,
        false if finds_dxc() => Some(
            "`dxcompiler.dll` is there, but it does not work or the device lacks shader model 6".to_owned(),
        ),
        false => Some(format!(
            "for these put `dxcompiler.dll` (1.8.2502 or newer, from the releases of Microsoft's DirectXShaderCompiler) \
             into {}; a GPU that Vulkan lists too has them there",
            folder_of_the_program()
        )),
    };
    let list = || numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let fxc = what.map(|what| {
        format!(
            "adapter {}: FXC compiles the shaders, so there are no subgroups, no f16 and no 64-bit integers; {what}",
            list()
        )
    });
    fxc.into_iter().chain(refused().map(|refused| format!("DirectX 12 is left out: {refused}"))).collect()
}

fn folder_of_the_program() -> String {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(std::path::Path::parent);
    folder.map_or_else(|| "the program's folder".into(), |folder| format!("`{}`", folder.display()))
}

/// True if the library that wgpu looks for is where Windows looks for it.
#[cfg(windows)]
#[allow(unsafe_code)]
fn finds_dxc() -> bool {
    use windows::Win32::{Foundation::FreeLibrary, System::LibraryLoader::LoadLibraryW};
    // SAFETY: what the library does as it is loaded wgpu has let it do before.
    let library = unsafe { LoadLibraryW(windows::core::w!("dxcompiler.dll")) };
    // SAFETY: nothing of it was taken.
    library.is_ok_and(|library| unsafe { FreeLibrary(library) }.is_ok())
}

#[cfg(not(windows))]
fn finds_dxc() -> bool {
    false
}

/// The highest shader model of the device.
#[cfg(windows)]
#[allow(unsafe_code)]
fn shader_model(adapter: &wgpu::Adapter) -> String {
    use windows::Win32::Graphics::{Direct3D, Direct3D12 as d3d, Dxgi};
    let ask = || {
        // SAFETY: the adapter is only read, and outlives the guard.
        let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Dx12>() }?;
        let raw: &Dxgi::IDXGIAdapter3 = hal.raw_adapter();
        let mut device: Option<d3d::ID3D12Device> = None;
        // SAFETY: an adapter of DirectX's own and a place for the device, which the adapter has
        // already: it is counted, not made.
        unsafe { d3d::D3D12CreateDevice(raw, Direct3D::D3D_FEATURE_LEVEL_11_0, &mut device) }.ok()?;
        let device = device?;
        // A model that Windows does not know is an error, so the newest comes first.
        (0x60..=0x69).rev().find_map(|model| {
            let mut data =
                d3d::D3D12_FEATURE_DATA_SHADER_MODEL { HighestShaderModel: d3d::D3D_SHADER_MODEL(model) };
            // SAFETY: the structure that belongs to this question, and its size.
            let known = unsafe {
                let (to, bytes) = ((&raw mut data).cast(), size_of_val(&data) as u32);
                device.CheckFeatureSupport(d3d::D3D12_FEATURE_SHADER_MODEL, to, bytes)
            };
            known.ok().map(|()| data.HighestShaderModel.0)
        })
    };
    ask().map_or_else(|| "6".into(), |model| format!("{}.{}", model >> 4, model & 15))
}

#[cfg(not(windows))]
fn shader_model(_: &wgpu::Adapter) -> String {
    "6".into()
}
