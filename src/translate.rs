//! What naga makes of a composed shader for each backend: SPIR-V, and the languages of Metal,
//! DirectX and OpenGL.
//!
//! wgpu does the same when it compiles a pipeline; here it is for people and for tests on machines
//! without that backend.

use crate::error::{Error, Result};
use crate::kernel::compose::Source;
use naga::back::{glsl, hlsl, msl, spv};
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
                let words = spv::write_vec(module, info, &options, None).map_err(|e| fail(e.to_string()))?;
                Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
            }
            Target::Msl => {
                let options =
                    msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() };
                let (text, _) = msl::write_string(module, info, &options, &Default::default())
                    .map_err(|e| fail(e.to_string()))?;
                Ok(text.into_bytes())
            }
            Target::Hlsl => {
                let options = hlsl::Options {
                    shader_model: hlsl::ShaderModel::V6_2,
                    fake_missing_bindings: true,
                    ..Default::default()
                };
                write_hlsl(module, info, &options).map_err(fail)
            }
            Target::Hlsl51 => {
                let info = validate(&self.source, module, Capabilities::SHADER_FLOAT16_IN_FLOAT32)?;
                write_hlsl(module, &info, &shader_model_5_1(module)).map_err(fail)
            }
            Target::Glsl => write_glsl(module, info).map_err(fail),
        }
    }
}

fn write_glsl(module: &naga::Module, info: &ModuleInfo) -> std::result::Result<Vec<u8>, String> {
    let (mut text, options) = (String::new(), glsl::Options::default());
    let entry_point = module.entry_points.first().map(|entry| entry.name.clone()).unwrap_or_default();
    let pipeline =
        glsl::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point, multiview: None };
    let policies = naga::proc::BoundsCheckPolicies::default();
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
