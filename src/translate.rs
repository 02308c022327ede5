//! What naga makes of a composed shader for each backend: SPIR-V, and the languages of Metal,
//! DirectX and OpenGL.
//!
//! wgpu does the same when it compiles a pipeline; here it is for people and for tests on machines
//! without that backend. [`translate`] keeps naga's run-time checks, as a shader has them that
//! nobody has looked at; [`translate_trusted`] leaves them out, as the runtime does with its own.

use crate::error::{Error, Result};
use crate::kernel::compose::Source;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, SubgroupOperationSet, ValidationFlags, Validator};

/// A language to translate into.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// As composed.
    Wgsl,
    /// SPIR-V 1.3, little-endian words.
    Spirv,
    /// Metal Shading Language 3.1.
    Msl,
    /// HLSL for shader model 6.2, which is DXC's.
    Hlsl,
    /// HLSL for shader model 5.1, as wgpu hands it to FXC: registers, no run-time checks.
    Hlsl51,
    /// GLSL ES 3.1, OpenGL's; it has neither f16 nor integers of 64 bits, so such shaders are
    /// errors.
    Glsl,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Wgsl, Self::Spirv, Self::Msl, Self::Hlsl, Self::Hlsl51, Self::Glsl];

    /// Its name as tools write it.
    ///
    /// ```
    /// use qmatmul::translate::Target;
    ///
    /// assert_eq!(Target::by_name("spirv"), Some(Target::Spirv));
    /// assert_eq!(Target::Hlsl51.name(), "hlsl51");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Wgsl => "wgsl",
            Self::Spirv => "spirv",
            Self::Msl => "msl",
            Self::Hlsl => "hlsl",
            Self::Hlsl51 => "hlsl51",
            Self::Glsl => "glsl",
        }
    }

    /// The language of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Why there is nothing that [`translate_trusted`] could leave out.
    fn has_no_checks(self) -> Option<&'static str> {
        match self {
            Self::Spirv | Self::Msl | Self::Hlsl => None,
            Self::Wgsl => Some("run-time checks are added by translation, and WGSL is not translated"),
            Self::Hlsl51 => Some("hlsl51 has no run-time checks anyway"),
            Self::Glsl => Some("the runtime compiles no GLSL"),
        }
    }
}

/// The composed shader in another language.
///
/// # Errors
/// [`Error::Gpu`] with the file and line below `shaders/` that naga complains about.
pub fn translate(source: &Source, target: Target) -> Result<Vec<u8>> {
    match target {
        Target::Wgsl => Ok(source.text.clone().into_bytes()),
        _ => Parsed::new(source.clone())?.write(target),
    }
}

/// The composed shader in another language as the runtime compiles its own shaders: loops are not
/// bounded, workgroup memory is not zeroed, indices and divisors are not checked.
///
/// SPIR-V is that of a device with Vulkan 1.3 that has every feature that qmatmul uses: version
/// 1.6, bindings numbered from 0 as wgpu numbers them, no names. HLSL and MSL differ from
/// [`translate`]'s in the checks alone.
///
/// ```
/// use qmatmul::format::Q4_0;
/// use qmatmul::kernel::{self, Caps, Problem, compose::compose};
/// use qmatmul::translate::{Target, translate, translate_trusted};
///
/// # fn main() -> qmatmul::Result<()> {
/// let (layout, kernel) = (Q4_0.layout(4096), kernel::by_name("gemm").expect("a kernel"));
/// let problem = Problem::of(&layout, 4096, 4096, 64);
/// let config = (kernel.configs)(&Caps::everything(), &problem).swap_remove(0);
/// let source = compose(kernel, &config, &layout.into());
/// let (all, trusted) = (translate(&source, Target::Spirv)?, translate_trusted(&source, Target::Spirv)?);
/// assert!(trusted.len() < all.len());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Argument`] for WGSL, GLSL and HLSL 5.1, which have no checks to leave out or are not
/// what the runtime compiles; otherwise those of [`translate`].
pub fn translate_trusted(source: &Source, target: Target) -> Result<Vec<u8>> {
    if let Some(reason) = target.has_no_checks() {
        return Err(Error::Argument(format!("there is no trusted {}: {reason}", target.name())));
    }
    Parsed::new(source.clone())?.write_trusted(target)
}

/// A composed shader as naga has read it: read once, written in any number of languages.
pub(crate) struct Parsed {
    pub source: Source,
    pub module: naga::Module,
    pub info: ModuleInfo,
}

impl Parsed {
    /// Parses and validates a composed shader, with everything allowed: what a language lacks its
    /// writer rejects.
    pub fn new(source: Source) -> Result<Self> {
        let module = naga::front::wgsl::parse_str(&source.text)
            .map_err(|e| located(&source, e.location(&source.text).map(|l| l.line_number), e.message()))?;
        let info = validate(&source, &module, Capabilities::all())?;
        Ok(Self { source, module, info })
    }

    pub fn write(&self, target: Target) -> Result<Vec<u8>> {
        let (module, info) = (&self.module, &self.info);
        let fail = |message: String| Error::Gpu { doing: format!("translating to {target:?}"), message };
        match target {
            Target::Wgsl => Ok(self.source.text.clone().into_bytes()),
            Target::Spirv => {
                let options = spv::Options { lang_version: (1, 3), ..Default::default() };
                write_spirv(module, info, &options, None).map_err(fail)
            }
            Target::Msl => write_msl(module, info, &msl_options()).map_err(fail),
            Target::Hlsl => write_hlsl(module, info, &hlsl_options()).map_err(fail),
            Target::Hlsl51 => {
                let info = validate(&self.source, module, Capabilities::SHADER_FLOAT16_IN_FLOAT32)?;
                write_hlsl(module, &info, &shader_model_5_1(module)).map_err(fail)
            }
            Target::Glsl => write_glsl(module, info).map_err(fail),
        }
    }

    /// As wgpu writes a shader that is created by `create_shader_module_trusted` without checks,
    /// for a pipeline whose workgroup memory need not be zeroed. Other targets are as
    /// [`Parsed::write`] has them.
    pub fn write_trusted(&self, target: Target) -> Result<Vec<u8>> {
        let (module, info) = (&self.module, &self.info);
        let fail = |message: String| Error::Gpu { doing: format!("translating to {target:?}"), message };
        match target {
            Target::Spirv => {
                let entry_point = module.entry_points.first().map(|entry| entry.name.clone());
                let shader_stage = naga::ShaderStage::Compute;
                let pipeline =
                    entry_point.map(|entry_point| spv::PipelineOptions { shader_stage, entry_point });
                write_spirv(module, info, &trusted_spirv(module), pipeline.as_ref()).map_err(fail)
            }
            Target::Msl => {
                let options = msl::Options {
                    bounds_check_policies: UNCHECKED,
                    zero_initialize_workgroup_memory: false,
                    force_loop_bounding: false,
                    emit_int_div_checks: false,
                    ..msl_options()
                };
                write_msl(module, info, &options).map_err(fail)
            }
            Target::Hlsl => {
                let options = hlsl::Options {
                    zero_initialize_workgroup_memory: false,
                    restrict_indexing: false,
                    force_loop_bounding: false,
                    ..hlsl_options()
                };
                write_hlsl(module, info, &options).map_err(fail)
            }
            Target::Wgsl | Target::Hlsl51 | Target::Glsl => self.write(target),
        }
    }
}

fn write_spirv(
    module: &naga::Module,
    info: &ModuleInfo,
    options: &spv::Options<'_>,
    pipeline: Option<&spv::PipelineOptions>,
) -> std::result::Result<Vec<u8>, String> {
    let words = spv::write_vec(module, info, options, pipeline).map_err(|e| e.to_string())?;
    Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
}

/// No index is checked.
const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// What wgpu's Vulkan backend sets for trusted shaders on a device with Vulkan 1.3 that was opened
/// with the features that we use: `wgpu_hal::vulkan::Adapter::device_from_raw` and `compile_stage`.
fn trusted_spirv(module: &naga::Module) -> spv::Options<'static> {
    use spv::Capability;
    let capabilities = [
        // Every device.
        Capability::Shader,
        Capability::Matrix,
        // Subgroups.
        Capability::GroupNonUniform,
        Capability::GroupNonUniformVote,
        Capability::GroupNonUniformArithmetic,
        Capability::GroupNonUniformBallot,
        Capability::GroupNonUniformShuffle,
        Capability::GroupNonUniformShuffleRelative,
        Capability::GroupNonUniformQuad,
        // Integers of 64 bits, f16, cooperative matrices.
        Capability::Int64,
        Capability::Float16,
        Capability::CooperativeMatrixKHR,
        Capability::VulkanMemoryModel,
        // Products of packed bytes, which wgpu uses wherever the device has them.
        Capability::DotProductInputAll,
        Capability::DotProductInput4x8Bit,
        Capability::DotProductInput4x8BitPacked,
        Capability::DotProduct,
        Capability::Int8,
    ];
    let mut bindings: Vec<_> = module.global_variables.iter().filter_map(|(_, v)| v.binding).collect();
    bindings.sort_by_key(|binding| (binding.group, binding.binding));
    let numbered = (0..).zip(bindings).map(|(number, from)| {
        let to = spv::BindingInfo { descriptor_set: from.group, binding: number, binding_array_size: None };
        (from, to)
    });
    spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        fake_missing_bindings: false,
        binding_map: numbered.collect(),
        capabilities: Some(capabilities.into_iter().collect()),
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        // Not every device has it, and no shader of ours has f16 from or for another stage.
        use_storage_input_output_16: false,
        ..Default::default()
    }
}

fn msl_options() -> msl::Options {
    msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() }
}

fn write_msl(
    module: &naga::Module,
    info: &ModuleInfo,
    options: &msl::Options,
) -> std::result::Result<Vec<u8>, String> {
    let (text, _) =
        msl::write_string(module, info, options, &Default::default()).map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

fn hlsl_options() -> hlsl::Options {
    hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, fake_missing_bindings: true, ..Default::default() }
}

fn write_glsl(module: &naga::Module, info: &ModuleInfo) -> std::result::Result<Vec<u8>, String> {
    let (mut text, options) = (String::new(), glsl::Options::default());
    let entry_point = module.entry_points.first().map(|entry| entry.name.clone()).unwrap_or_default();
    let pipeline =
        glsl::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point, multiview: None };
    let policies = BoundsCheckPolicies::default();
    let writer = glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies);
    writer.and_then(|mut writer| writer.write()).map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

fn write_hlsl(
    module: &naga::Module,
    info: &ModuleInfo,
    options: &hlsl::Options,
) -> std::result::Result<Vec<u8>, String> {
    let mut text = String::new();
    let pipeline = Default::default();
    hlsl::Writer::new(&mut text, options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

/// What wgpu sets for FXC and trusted shaders. Registers are counted by kind, in the order of
/// bindings.
fn shader_model_5_1(module: &naga::Module) -> hlsl::Options {
    let mut bindings: Vec<_> =
        module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?, v.space))).collect();
    bindings.sort_by_key(|(binding, _)| (binding.group, binding.binding));
    let writes = |space: &naga::AddressSpace| matches!(space, naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE));
    let kind = |space: &naga::AddressSpace| (*space == naga::AddressSpace::Uniform, writes(space));
    let same = |at: usize| bindings[..at].iter().filter(|(_, s)| kind(s) == kind(&bindings[at].1)).count();
    let target = |register| hlsl::BindTarget { register: register as u32, ..Default::default() };
    let uniforms = bindings.iter().filter(|(_, space)| *space == naga::AddressSpace::Uniform).count();
    hlsl::Options {
        shader_model: hlsl::ShaderModel::V5_1,
        fake_missing_bindings: false,
        binding_map: (0..bindings.len()).map(|at| (bindings[at].0, target(same(at)))).collect(),
        // The number of workgroups.
        special_constants_binding: Some(target(uniforms)),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..Default::default()
    }
}

/// What naga knows of a module whose shader may use no more than these capabilities.
fn validate(source: &Source, module: &naga::Module, capabilities: Capabilities) -> Result<ModuleInfo> {
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    if capabilities.contains(Capabilities::SUBGROUP) {
        validator
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all());
    }
    validator.validate(module).map_err(|e| {
        let line = e.location(&source.text).map(|l| l.line_number);
        located(source, line, &e.emit_to_string(&source.text))
    })
}

fn located(source: &Source, line: Option<u32>, message: &str) -> Error {
    let doing = match line.map(|line| source.locate(line as usize)) {
        Some((path, line)) => format!("{path}:{line}"),
        None => "composed shader".into(),
    };
    Error::Gpu { doing, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{self, Format};
    use crate::kernel::{self, Activations, Caps, Problem, compose};

    /// A kernel's first configuration for 64 tokens, or one where it takes no more.
    fn parsed(kernel: &str, format: &'static Format, activations: Activations) -> Parsed {
        let kernel = kernel::by_name(kernel).expect("a kernel of the table");
        let caps = Caps { max_workgroup_memory: 32 << 10, ..Caps::everything() };
        let batch = if kernel.name == "gemv" { 1 } else { 64 };
        let layout = format.layout(4096);
        let problem = Problem { activations, ..Problem::of(&layout, 4096, 4096, batch) };
        let config = (kernel.configs)(&caps, &problem).swap_remove(0);
        Parsed::new(compose::compose(kernel, &config, &layout.into())).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What a SPIR-V module says.
    #[derive(Debug, Default)]
    struct Counts {
        version: u32,
        instructions: usize,
        loops: usize,
        /// Variables of functions: each bounded loop has a counter.
        variables: usize,
        workgroup_variables: Vec<u32>,
        /// Workgroup variables that are zeroed by a store or start as zeros.
        zeroed: usize,
        bindings: Vec<u32>,
    }

    const CONSTANT_NULL: u32 = 46;
    const VARIABLE: u32 = 59;
    const STORE: u32 = 62;
    const DECORATE: u32 = 71;
    const LOOP_MERGE: u32 = 246;

    fn counts(code: &[u8]) -> Counts {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let words: Vec<u32> = code.chunks(4).map(word).collect();
        let mut counts = Counts { version: words[1], ..Counts::default() };
        let (mut at, mut nulls) = (5, vec![]);
        while at < words.len() {
            let length = words[at] as usize >> 16;
            let (operation, of) = (words[at] & 0xffff, &words[at + 1..at + length]);
            counts.instructions += 1;
            match (operation, of) {
                (CONSTANT_NULL, [_, result]) => nulls.push(*result),
                (VARIABLE, [_, result, 4, initial @ ..]) => {
                    counts.workgroup_variables.push(*result);
                    counts.zeroed += initial.len();
                }
                (VARIABLE, [_, _, 7, ..]) => counts.variables += 1,
                (STORE, [to, value, ..]) => {
                    let is_zeroed = counts.workgroup_variables.contains(to) && nulls.contains(value);
                    counts.zeroed += usize::from(is_zeroed);
                }
                (DECORATE, [_, 33, binding]) => counts.bindings.push(*binding),
                (LOOP_MERGE, _) => counts.loops += 1,
                _ => {}
            }
            at += length;
        }
        counts.bindings.sort_unstable();
        counts
    }

    #[test]
    fn trusted_spirv_bounds_no_loops_and_zeroes_nothing() {
        for (kernel, format, activations) in [
            ("gemv", format::Q4_0, Activations::F32),
            ("gemv", format::Q4_K, Activations::Q8),
            ("gemv", format::NF4, Activations::F32),
            ("gemm", format::Q4_K, Activations::F32),
            ("gemm_q8", format::Q4_0, Activations::Q8),
            ("gemm_coop", format::Q4_0, Activations::F16),
            ("gemm_coop", format::NF4, Activations::F16),
            ("matmul_software", format::Q4_0, Activations::F32),
        ] {
            let parsed = parsed(kernel, format, activations);
            let name = format!("{kernel} of {}", format.name);
            let written = |code: Result<Vec<u8>>| counts(&code.unwrap_or_else(|e| panic!("{name}: {e}")));
            let all = written(parsed.write(Target::Spirv));
            let trusted = written(parsed.write_trusted(Target::Spirv));
            assert_eq!((all.version, trusted.version), (0x1_0300, 0x1_0600), "{name}");
            assert_eq!(all.zeroed, all.workgroup_variables.len(), "{name}: {all:?}");
            assert_eq!(trusted.zeroed, 0, "{name}: {trusted:?}");
            assert!(all.loops > 0 && all.loops == trusted.loops, "{name}: {all:?} {trusted:?}");
            assert_eq!(all.variables, trusted.variables + all.loops, "{name}: {all:?} {trusted:?}");
            assert!(trusted.instructions < all.instructions, "{name}: {all:?} {trusted:?}");
            let numbers: Vec<u32> = (0..).take(trusted.bindings.len()).collect();
            assert_eq!((trusted.bindings.len(), trusted.bindings), (all.bindings.len(), numbers), "{name}");
        }
    }

    #[test]
    fn trusted_is_refused_where_it_means_nothing() {
        let source = parsed("gemv", format::Q4_0, Activations::F32).source;
        for target in [Target::Wgsl, Target::Hlsl51, Target::Glsl] {
            let error = translate_trusted(&source, target).expect_err("refused").to_string();
            assert!(error.contains(&format!("there is no trusted {}", target.name())), "{error}");
        }
        for target in [Target::Spirv, Target::Msl, Target::Hlsl] {
            let (all, trusted) = (translate(&source, target), translate_trusted(&source, target));
            assert!(trusted.expect("translated").len() < all.expect("translated").len(), "{target:?}");
        }
    }
}
